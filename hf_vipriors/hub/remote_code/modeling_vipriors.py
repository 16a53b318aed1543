"""A VIPriors teacher: a timm backbone that learnt without labels, and its projector."""

import copy
from dataclasses import dataclass

import timm
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_vipriors import VipriorsConfig


@dataclass
class VipriorsOutput(ModelOutput):
    """``pooled`` (B, D): features of the backbone. ``projection`` (B, P): raw projector output, or None."""

    pooled: torch.Tensor | None = None
    projection: torch.Tensor | None = None


class VipriorsModel(PreTrainedModel):
    """Normalised images (B, 3, H, W) to pooled features (B, D) and their projection (B, P)."""

    config_class = VipriorsConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"

    def __init__(self, config: VipriorsConfig) -> None:
        super().__init__(config)
        if not timm.is_model(config.backbone):
            raise ValueError(
                f"timm knows no {config.backbone!r}: pip install hf-vipriors and import hf_vipriors first"
            )
        arguments = {name: _tuples(value) for name, value in (config.backbone_args or {}).items()}
        known = timm.get_pretrained_cfg(config.backbone)
        if known is not None and known.fixed_input_size:
            arguments["img_size"] = config.image_size
        self.backbone = timm.create_model(config.backbone, pretrained=False, num_classes=0, **arguments)
        self._built_on_meta = next(self.backbone.parameters()).is_meta
        self.projector = None
        if config.projector_dim is not None:
            self.projector = _projector(config, self.backbone.head_hidden_size)
        self.post_init()

    def forward(self, pixel_values: torch.Tensor) -> VipriorsOutput:
        pooled = self.backbone.forward_head(self.backbone.forward_features(pixel_values), pre_logits=True)
        return VipriorsOutput(pooled=pooled, projection=None if self.projector is None else self.projector(pooled))

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: timm and torch initialise each layer when they build it."""

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Fill what no checkpoint holds (position indices, frequencies) as a freshly built network has it."""
        if not self._built_on_meta:
            return
        tensors = dict(self.named_parameters()) | dict(self.named_buffers())
        missing = [name for name, tensor in tensors.items() if not getattr(tensor, "_is_hf_initialized", False)]
        if missing:
            with torch.device("cpu"):
                fresh = type(self)(copy.deepcopy(self.config))
            values = dict(fresh.named_parameters()) | dict(fresh.named_buffers())
            for name in missing:
                tensors[name].copy_(values[name])


def _projector(config: VipriorsConfig, width: int) -> nn.Module:
    if config.projector_hidden_dim == 0:
        return nn.Linear(width, config.projector_dim)
    hidden = config.projector_hidden_dim or width
    norm = [nn.BatchNorm1d(hidden)] if config.projector_batch_norm else []
    return nn.Sequential(nn.Linear(width, hidden), *norm, nn.ReLU(), nn.Linear(hidden, config.projector_dim))


def _tuples(value):
    """JSON knows lists only, several timm networks test for tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
