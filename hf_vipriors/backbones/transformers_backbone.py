"""A transformers vision model behind the part of timm's interface that this project uses.

Distillation wants three things of a teacher: pooled features, logits, stage maps. Where they lie differs from one
transformers family to the next, so one image is sent through when the wrapper is built, and the places are found by
watching it: no list of architectures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..errors import InputError, one_line


class Features(NamedTuple):
    """What one pass gave: pooled features ``(B, D)``, and logits ``(B, K)`` where there is a classifier."""

    pooled: Tensor
    logits: Tensor | None


class TransformersBackbone(nn.Module):
    """Wrap what ``AutoModelForImageClassification`` or ``AutoModel`` loaded (ViT, DINOv2, Swin, ConvNeXt, ResNet ...).

    The pooled features are

    - of a classifier, what its last Linear reads (DINOv2: class token and mean of the patches, side by side);
    - else the model's ``pooler_output`` (DINOv2: the normalised class token; Swin, ConvNeXt: the mean);
    - but where the pooler ends in a tanh (ViT, DeiT), or there is none, the class token after the last norm, and
      without class token the mean over all positions. That tanh layer comes from BERT: most vision checkpoints were
      trained without it, and transformers then fills it with random numbers.

    The stage maps are the model's hidden states as ``(B, C, H, W)``, the patch embedding and class or register tokens
    left out: of a pyramid the last one at each resolution (Swin's, as transformers gives them, after patch merging),
    else one for each block.

    Args:
        model: a transformers model that reads ``pixel_values``.
        image_size: side of the square images it takes, in pixels.

    Attributes:
        num_features, head_hidden_size: D of the pooled features.
        feature_info: one dict (``num_chs``, ``reduction``, ``module``) for each stage map.

    Raises:
        InputError: the model does not read images, cannot take this size, or answers the same image differently
            each time (ViT-MAE hides random patches).

    Example:
        >>> from transformers import ViTConfig, ViTModel
        >>> sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        >>> network = TransformersBackbone(ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes)), image_size=32)
        >>> final, maps = network.forward_intermediates(torch.rand(2, 3, 32, 32))
        >>> final.pooled.shape, [tuple(each.shape) for each in maps]
        (torch.Size([2, 16]), [(2, 16, 4, 4), (2, 16, 4, 4)])
    """

    in_chans = 3

    def __init__(self, model: PreTrainedModel, image_size: int) -> None:
        super().__init__()
        self.model = model
        self.image_size = image_size
        self._places = _places(model, image_size)
        self.num_features = self.head_hidden_size = self._places.width
        self.feature_info = [
            {"num_chs": channels, "reduction": image_size / side, "module": f"hidden_states.{index}"}
            for index, channels, side in self._places.stages
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to logits (B, K), or to pooled features (B, D) without a classifier."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Features:
        """Normalised images (B, 3, H, W) to what :meth:`forward_head` takes."""
        return _run(self.model, self._places, x)[0]

    def forward_head(self, features: Features, pre_logits: bool = False) -> Tensor:
        """Logits (B, K); pooled features (B, D) with ``pre_logits`` or where there is no classifier."""
        return features.pooled if pre_logits or features.logits is None else features.logits

    def forward_intermediates(
        self, x: Tensor, indices: int | Sequence[int] | None = None, output_fmt: str = "NCHW"
    ) -> tuple[Features, list[Tensor]]:
        """One pass for features and stage maps.

        Args:
            x: normalised images (B, 3, H, W).
            indices: which stages, or how many of the last; None: all.
            output_fmt: ``"NCHW"``, the only one there is.

        Returns:
            ``(features, maps)``: what :meth:`forward_head` takes, and maps (B, C, H, W), shallow to deep.

        Raises:
            ValueError: another ``output_fmt``.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"maps come as NCHW only, not {output_fmt!r}")
        features, output = _run(self.model, self._places, x, hidden_states=True)
        stages = self._places.stages
        chosen = range(len(stages)) if indices is None else indices
        if isinstance(chosen, int):
            chosen = range(len(stages) - chosen, len(stages))
        hidden = _hidden_states(output)
        if not hidden:
            return features, [features.pooled[:, :, None, None] for _ in chosen]
        return features, [_as_map(hidden[stages[i][0]], self._places.grid) for i in chosen]


@dataclass
class _Places:
    """Where in one model the features lie.

    Attributes:
        classifier: name of the Linear that reads (B, D) and whose output the logits are.
        use_pooler: whether ``pooler_output`` is read, where there is no such Linear.
        grid: height and width of the patches.
        width: D.
        stages: (number among the hidden states, channels, side) of each stage.
    """

    classifier: str | None = None
    use_pooler: bool = False
    grid: tuple[int, int] = (1, 1)
    width: int = 0
    stages: list[tuple[int, int, int]] = field(default_factory=list)


@torch.no_grad()
def _places(model: PreTrainedModel, image_size: int) -> _Places:
    """Send one image through, twice, and see where things come from."""
    if model.main_input_name != "pixel_values":
        raise InputError(f"{type(model).__name__} reads {model.main_input_name}, not images alone: no vision model")
    was_training = model.training
    weight = next(model.parameters())
    image = torch.linspace(-1, 1, 3 * image_size**2).view(1, 3, image_size, image_size).to(weight)
    places = _Places()
    model.eval()
    try:
        with _watched(model) as trace:
            output = model(pixel_values=image, output_hidden_states=True)
            _find(places, model, trace, output)
        first, second = (_run(model, places, image)[0] for _ in range(2))
    except InputError:
        raise
    except Exception as error:  # every family raises its own for a size or an input it does not know
        line = one_line(error, 200)
        raise InputError(f"{type(model).__name__} cannot read {image_size} px images: {line}") from error
    finally:
        model.train(was_training)
    if not torch.allclose(first.pooled, second.pooled, atol=1e-4):
        raise InputError(
            f"{type(model).__name__} answers the same image differently each time (does it hide random patches?): "
            "load the plain network, such as ViTModel for a ViT-MAE checkpoint"
        )
    places.width = first.pooled.shape[1]
    if not places.stages:
        places.stages = [(0, places.width, 1)]
    return places


@dataclass
class _Trace:
    """Outputs of every module in one pass (the last of each), inputs of every Linear, the first convolution's grid."""

    outputs: dict[nn.Module, Any] = field(default_factory=dict)
    inputs: dict[nn.Module, Tensor] = field(default_factory=dict)
    grid: tuple[int, int] | None = None


@contextmanager
def _watched(model: nn.Module) -> Iterator[_Trace]:
    trace = _Trace()

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        trace.outputs[module] = output
        if isinstance(module, nn.Linear):
            trace.inputs[module] = inputs[0]
        if isinstance(module, nn.Conv2d) and trace.grid is None:
            trace.grid = tuple(output.shape[-2:])

    with ExitStack() as hooks:
        for module in model.modules():
            hooks.callback(module.register_forward_hook(after).remove)
        yield trace


def _find(places: _Places, model: PreTrainedModel, trace: _Trace, output: ModelOutput) -> None:
    logits = output.get("logits")
    if logits is not None:
        for name, module in model.named_modules():
            if (
                isinstance(module, nn.Linear)
                and trace.outputs.get(module) is logits
                and trace.inputs[module].ndim == 2
            ):
                places.classifier = name
    network = _headless(model, output)
    pooler = trace.outputs[network].get("pooler_output")
    tanh = [each for module, each in trace.outputs.items() if isinstance(module, nn.Tanh)]
    places.use_pooler = pooler is not None and not any(pooler is each for each in tanh)
    places.grid = trace.grid or (1, 1)
    # What the first part of the network gives is the patch embedding or the stem, and no stage.
    first = next((trace.outputs[child] for child in network.children() if child in trace.outputs), None)
    first = first[0] if isinstance(first, tuple) else first
    skip = 1 if output.get("hidden_states") and output["hidden_states"][0] is first else 0
    maps = {i: _as_map(hidden, places.grid) for i, hidden in enumerate(_hidden_states(output)) if i >= skip}
    stages = [(i, map_.shape[1], map_.shape[-1]) for i, map_ in maps.items() if map_ is not None]
    if len({side for *_, side in stages}) > 1:  # a pyramid
        stages = sorted({side: (i, channels, side) for i, channels, side in stages}.values())
    places.stages = stages


def _headless(model: PreTrainedModel, output: ModelOutput) -> nn.Module:
    """The network under a classifier; a model without one is it (its ``base_model`` may be a mere part)."""
    return model if output.get("logits") is None else model.base_model


def _run(
    model: PreTrainedModel, places: _Places, x: Tensor, *, hidden_states: bool = False
) -> tuple[Features, ModelOutput]:
    """One pass with the hooks that this model needs; hidden states of all layers are kept only where asked for."""
    seen: dict[str, Any] = {}
    with ExitStack() as hooks:
        if places.classifier is not None:
            linear = model.get_submodule(places.classifier)
            hook = linear.register_forward_pre_hook(lambda _, inputs: seen.update(pooled=inputs[0]))
            hooks.callback(hook.remove)
        else:
            hook = model.base_model.register_forward_hook(lambda _, inputs, output: seen.update(base=output))
            hooks.callback(hook.remove)
        output = model(pixel_values=x, output_hidden_states=hidden_states)
    if places.classifier is not None:
        pooled = seen["pooled"]
    else:
        pooled = _pooled(output if output.get("logits") is None else seen["base"], places)
    return Features(pooled, output.get("logits")), output


def _pooled(output: ModelOutput, places: _Places) -> Tensor:
    if places.use_pooler:
        return output["pooler_output"].flatten(1)
    last = output["last_hidden_state"]
    if last.ndim == 4:
        return last.mean((2, 3))
    prefixed = last.shape[1] > math.prod(places.grid)
    return last[:, 0] if prefixed else last.mean(1)


def _hidden_states(output: ModelOutput) -> Sequence[Tensor]:
    """The hidden states, as maps where the model also gives them so."""
    return output.get("reshaped_hidden_states") or output.get("hidden_states") or ()


def _as_map(hidden: Tensor, grid: tuple[int, int]) -> Tensor | None:
    """(B, C, H, W) from a hidden state of square images; None from one that has no grid.

    Tokens before the patches (class, distillation, registers) are left out.
    """
    if hidden.ndim == 4:
        channels_last = hidden.shape[1] == hidden.shape[2] != hidden.shape[3]
        return hidden.permute(0, 3, 1, 2) if channels_last else hidden
    if hidden.ndim != 3:
        return None
    count, patches = hidden.shape[1], math.prod(grid)
    if count < patches:  # the tokens of a pyramid, after its first stage
        side = math.isqrt(count)
        patches, grid = side**2, (side, side)
        if patches != count:
            return None
    return hidden[:, count - patches :].transpose(1, 2).unflatten(2, grid)
