"""The two models: a backbone with a projector (teachers), and a backbone with a classifier (students)."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel, TimmWrapperConfig
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.utils import CONFIG_NAME, ModelOutput

from ..backbones import create_backbone, feature_dim, has_fixed_size, is_harmonic, load_plain_state, plain_state
from ..errors import InputError, one_line
from .configuration_vipriors import VipriorsConfig
from .download import check_files, check_shards, verified_snapshot

# What from_pretrained takes to reach the Hub.
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "token")


@dataclass
class VipriorsOutput(ModelOutput):
    """Output of :class:`VipriorsModel`.

    Attributes:
        pooled: (B, D) features of the backbone, after pooling and before any classifier.
        projection: (B, P) raw projector output, not normalised; None without a projector.
    """

    pooled: torch.Tensor | None = None
    projection: torch.Tensor | None = None


class VipriorsPreTrainedModel(PreTrainedModel):
    """What both models share: the timm network ``backbone``, its features, and how fresh weights are made."""

    config_class = VipriorsConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    # The Trainer would otherwise pass num_items_in_batch, which belongs to losses summed over tokens.
    accepts_loss_kwargs = False

    backbone: nn.Module
    config: VipriorsConfig

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, *args: Any, **kwargs: Any) -> Self:
        """As in transformers, but of safetensors alone, whole, and of the Hub's files only what has its checksums.

        Raises:
            InputError: the folder holds no model of ours or lacks weights (transformers would fill them at random), a
                downloaded file is damaged, or the weights are said to lie elsewhere.
        """
        if not Path(name).is_dir():
            options = {key: kwargs.pop(key) for key in HUB_OPTIONS if kwargs.get(key) is not None}
            name = verified_snapshot(str(name), subfolder=kwargs.get("subfolder", ""), **options)
        folder = Path(name, kwargs.get("subfolder", ""))
        check_files(folder)
        check_is_ours(folder, kwargs.get("config"))
        check_shards(folder)
        wants_report = kwargs.pop("output_loading_info", False)
        loaded: Any = super().from_pretrained(
            name, *args, **(kwargs | {"use_safetensors": True, "output_loading_info": True})
        )
        model, report = loaded  # as asked for; the signature knows the model alone
        missing = sorted(set(report["missing_keys"]) - cls._may_be_missing(model))
        if missing:
            raise InputError(
                f"{folder} is no whole checkpoint, it lacks {', '.join(missing[:3])}{', ...' * (len(missing) > 3)}: "
                f"a {cls.__name__} would have random weights there; save or download it again"
            )
        return loaded if wants_report else model

    @classmethod
    def _may_be_missing(cls, model: Self) -> set[str]:
        """Names of the tensors that a checkpoint may lack."""
        return set()

    def _build_backbone(self, num_classes: int) -> None:
        config = self.config
        self.backbone = create_backbone(
            config.backbone,
            image_size=config.image_size,
            num_classes=num_classes,
            backbone_args=config.backbone_args,
        )
        self._built_on_meta = next(self.backbone.parameters()).is_meta

    @property
    def fixed_size(self) -> bool:
        """Whether the network takes images of ``config.image_size`` only (position embeddings, windows)."""
        return has_fixed_size(self.config.backbone)

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Pooled features (B, D) of normalised images (B, C, H, W): what kNN and linear probes read."""
        network: Any = self.backbone  # of its attributes torch says "Tensor | Module"
        return network.forward_head(network.forward_features(pixel_values), pre_logits=True)

    def plain(self) -> Self:
        """The model as others know it: itself, or a copy in which harmonic convolutions are plain ones."""
        if not is_harmonic(self.backbone):
            return self
        with torch.random.fork_rng(devices=[]):  # fresh weights are overwritten: they should not cost random numbers
            model: Any = type(self)(copy.deepcopy(self.config))
        own = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("backbone.")}
        own |= {f"backbone.{name}": tensor for name, tensor in plain_state(self.backbone).items()}
        model.load_state_dict(own)
        return model.to(self.device).train(self.training)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As in transformers; what is saved is :meth:`plain`, and whoever may read its configuration may load it."""
        PreTrainedModel.save_pretrained(self.plain(), save_directory, *args, **kwargs)
        for weights in Path(save_directory).glob("model*.safetensors"):  # written for the owner alone
            shutil.copymode(Path(save_directory, CONFIG_NAME), weights)

    def _bare_state(self) -> dict[str, torch.Tensor]:
        """The state of the plain backbone without classifier, by the names that the same network has without one."""
        config = self.config
        with torch.device("meta"):
            bare = create_backbone(
                config.backbone, image_size=config.image_size, num_classes=0, backbone_args=config.backbone_args
            )
        state = plain_state(self.backbone)
        return {name: state[name] for name in bare.state_dict()}

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: timm and torch initialise each layer when they build it, and better than one rule for all."""

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Give whatever a checkpoint did not hold the value it has in a freshly built model.

        ``from_pretrained`` builds on the meta device, where neither initial weights nor the computed buffers that
        no checkpoint holds (Swin's position index, rotary frequencies) have values. transformers would fill them
        module by module from rules of its own; a freshly built model has the right ones for every timm network.
        """
        if not self._built_on_meta:
            return
        tensors = dict(self.named_parameters()) | dict(self.named_buffers())
        # transformers marks what it has loaded, and on nothing else this attribute exists.
        missing = {name for name, tensor in tensors.items() if not getattr(tensor, "_is_hf_initialized", False)}
        if missing:
            with torch.device("cpu"):
                fresh = type(self)(copy.deepcopy(self.config))
            values = dict(fresh.named_parameters()) | dict(fresh.named_buffers())
            for name in missing:
                tensors[name].copy_(values[name])


class VipriorsModel(VipriorsPreTrainedModel):
    """Backbone without classifier, and the projector of contrastive learning where the configuration has one.

    The projector is ``Linear - ReLU - Linear`` (MoCo v2), ``Linear - BatchNorm - ReLU - Linear`` (SimCLR, DoGo), or
    one ``Linear`` where ``projector_hidden_dim`` is 0 (MoCo v1).

    Example:
        >>> config = VipriorsConfig.for_backbone("resnet18", image_size=64, projector_dim=128)
        >>> output = VipriorsModel(config)(torch.rand(2, 3, 64, 64))
        >>> output.pooled.shape, output.projection.shape
        (torch.Size([2, 512]), torch.Size([2, 128]))
    """

    def __init__(self, config: VipriorsConfig) -> None:
        super().__init__(config)
        self._build_backbone(num_classes=0)
        self.projector = None if config.projector_dim is None else _projector(config, feature_dim(self.backbone))
        self.post_init()

    def forward(self, pixel_values: torch.Tensor) -> VipriorsOutput:
        """Normalised images (B, C, H, W) to pooled features (B, D) and their projection (B, P)."""
        pooled = self.features(pixel_values)
        return VipriorsOutput(pooled=pooled, projection=None if self.projector is None else self.projector(pooled))


class VipriorsForImageClassification(VipriorsPreTrainedModel):
    """A timm network with its own classifier, ``num_labels`` wide.

    ``from_pretrained`` also takes the folder of a :class:`VipriorsModel`: the backbone is loaded, the projector
    left out, the classifier new.

    Example:
        >>> config = VipriorsConfig.for_backbone("resnet18", image_size=64, class_names=["cat", "dog"])
        >>> student = VipriorsForImageClassification(config)
        >>> student(torch.rand(4, 3, 64, 64), labels=torch.tensor([0, 1, 1, 0])).loss.shape
        torch.Size([])
    """

    _keys_to_ignore_on_load_unexpected = [r"^projector\."]

    @classmethod
    def _may_be_missing(cls, model: Self) -> set[str]:
        """The classifier, which the checkpoint of a teacher does not have."""
        bare = model._bare_state()
        return {f"backbone.{name}" for name in model.backbone.state_dict() if name not in bare}

    def __init__(self, config: VipriorsConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self._build_backbone(num_classes=config.num_labels)
        self.post_init()

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> ImageClassifierOutput:
        """Normalised images (B, C, H, W), and labels (B,) for the plain cross-entropy, to logits (B, num_labels)."""
        logits = self.backbone(pixel_values)
        loss = None if labels is None else functional.cross_entropy(logits.float(), labels)
        return ImageClassifierOutput(loss=loss, logits=logits)

    def load_backbone_from(self, source: VipriorsPreTrainedModel) -> None:
        """Copy the backbone weights of a teacher or of another classifier, all but the classifier.

        Raises:
            InputError: ``source`` is another network, the same one built for another image size, or no timm network
                of ours; the message names what does not fit. Or the own convolutions are harmonic, and cannot hold the
                weights.
        """
        wanted, given = self._bare_state(), source._bare_state()
        misfits = [f"no {name}" for name in wanted if name not in given]
        misfits += [f"{name} too many" for name in given if name not in wanted]
        misfits += [
            f"{name} is {tuple(given[name].shape)}, not {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in given and given[name].shape != tensor.shape
        ]
        if misfits:
            more = f" and {len(misfits) - 5} more" if len(misfits) > 5 else ""
            raise InputError(
                f"the backbone {_described(source)} does not fit {_described(self)}: {', '.join(misfits[:5])}{more}"
            )
        load_plain_state(self.backbone, given)


def not_finite(tensors: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Names of those that hold NaN or infinity.

    Example:
        >>> not_finite([("weight", torch.ones(2)), ("bias", torch.tensor([torch.nan])), ("step", torch.tensor(1))])
        ['bias']
    """
    return [name for name, tensor in tensors if tensor.is_floating_point() and not tensor.isfinite().all()]


def check_is_ours(folder: Path, config: Any = None) -> None:
    """Refuse a folder whose ``config.json`` describes another kind of model: loaded as ours it would be random.

    Args:
        folder: of the checkpoint.
        config: what the caller gave in place of the folder's own.

    Raises:
        InputError: no ``config.json``, a damaged one, or one of another kind.
    """
    if isinstance(config, VipriorsConfig):
        return
    file = folder / CONFIG_NAME
    try:
        kind = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except FileNotFoundError:
        raise InputError(f"no {CONFIG_NAME} in {folder}: give the folder of a model that was saved") from None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{file} is damaged: {one_line(error, 200)}") from None
    if kind == VipriorsConfig.model_type:
        return
    hint = ""
    if kind == TimmWrapperConfig.model_type:
        hint = ": a native student is loaded by pipeline(), AutoModelForImageClassification or load_teacher()"
    raise InputError(f"{folder} holds no model of hf_vipriors (model_type {kind!r}){hint}")


def _projector(config: VipriorsConfig, width: int) -> nn.Module:
    if config.projector_hidden_dim == 0:
        return nn.Linear(width, config.projector_dim)
    hidden = config.projector_hidden_dim or width
    norm = [nn.BatchNorm1d(hidden)] if config.projector_batch_norm else []
    return nn.Sequential(nn.Linear(width, hidden), *norm, nn.ReLU(), nn.Linear(hidden, config.projector_dim))


def _described(model: VipriorsPreTrainedModel) -> str:
    arguments = f" {model.config.backbone_args}" if model.config.backbone_args else ""
    return f"{model.config.backbone!r}{arguments} at {model.config.image_size} px"
