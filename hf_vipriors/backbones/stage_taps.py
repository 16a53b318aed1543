"""Stage maps of any timm network, before the activation where there is a ReLU with a batch norm in front of it.

Feature distillation compares what a stage computes. Behind a ReLU half of it is gone, so the overhaul distillation
reads the value in front of the ReLU, and takes its margin from the batch norm that produced it. Which modules these
are is found by watching one forward pass (:mod:`hf_vipriors.backbones.activation_trace`).

References:
    [0] A Comprehensive Overhaul of Feature Distillation, https://arxiv.org/abs/1904.01866
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from .activation_trace import ActivationTrace


@dataclass(frozen=True)
class Stage:
    """One tapped stage.

    Attributes:
        name: the module in the network whose output the stage is, such as ``"layer4"``.
        channels: C of the map.
        side: height and width of the map at the image size the taps were built for.
        norm: the batch norm in front of the ReLU that ends the stage, and the map is what goes into that ReLU; None
            when the stage does not end so (SiLU, GELU, ReLU6, no batch norm), and the map is the stage's output.
    """

    name: str
    channels: int
    side: int
    norm: nn.BatchNorm2d | None


@runtime_checkable
class _HasIntermediates(Protocol):
    def forward_intermediates(self, x: torch.Tensor, **kwargs: Any) -> tuple[Any, list[torch.Tensor]]: ...


class _InputTap:
    """Forward pre-hook that keeps a module's inputs while it is armed.

    An object and not a closure: a deep copy of a network then has a tap of its own, which stays unarmed until the
    copied StageTaps arms it.
    """

    def __init__(self) -> None:
        self.armed = False
        self.inputs: list[torch.Tensor] = []

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if self.armed:
            self.inputs.append(inputs[0])

    def arm(self, armed: bool) -> None:
        self.armed = armed
        self.inputs = []


class StageTaps:
    """Run a timm network and get its stage maps beside its final features.

    Building the taps sends one image through the network in eval mode without gradients; batch-norm statistics,
    training modes and random generators stay as they are. Where a stage ends in a ReLU, that ReLU (and only that)
    stops working in place, since it would overwrite what is tapped.

    The taps belong to the very module object they were built on: after ``copy.deepcopy(model)`` build new ones for
    the copy (an object that holds both may be copied whole). They work in train and eval mode, with gradients,
    and inside a wrapper such as DDP as long as the call happens within the wrapper's forward.

    Args:
        model: a timm network; its classifier does not matter.
        image_size: side of the square images, in pixels.
        max_stages: how many stages at most. A pyramid gives its deepest ones, a network with one resolution (ViT)
            evenly spaced blocks that end with the last.
        next_norm: where a stage ends in a bare sum, as in pre-activation networks, its map is what the batch norm that
            follows makes of it, in front of the ReLU behind that, and a stem is no stage [0]. Default False: the sum.

    Attributes:
        stages: list of :class:`Stage`, shallow to deep.

    Raises:
        ValueError: ``max_stages`` below 1.

    Example:
        >>> from hf_vipriors.backbones import create_backbone
        >>> taps = StageTaps(create_backbone("resnet18", image_size=64), image_size=64)
        >>> [(stage.name, stage.channels, stage.side) for stage in taps.stages]
        [('layer1', 64, 16), ('layer2', 128, 8), ('layer3', 256, 4), ('layer4', 512, 2)]
        >>> maps, final = taps(torch.rand(2, 3, 64, 64))
        >>> features = taps.model.forward_head(final)
    """

    def __init__(self, model: nn.Module, image_size: int, max_stages: int = 4, *, next_norm: bool = False) -> None:
        if max_stages < 1:
            raise ValueError(f"max_stages must be at least 1, got {max_stages}")
        self.model = model
        self._indices: list[int] | None = None  # None: all that the network gives
        was_training = {module: module.training for module in model.modules()}
        model.eval()
        try:
            with torch.no_grad(), ActivationTrace(model) as trace:
                weight = next(model.parameters())
                _, maps = self._run(weight.new_zeros(1, model.in_chans, image_size, image_size))
        finally:
            # Parents come first, and train() reaches down: a child has the last word about itself.
            for module, training in was_training.items():
                module.train(training)
        names = _stage_names(model, len(maps))
        self._indices = _choose(maps, max_stages)
        if next_norm:
            self._indices = [index for index in self._indices if names[index] != "stem"]
        self.stages: list[Stage] = []
        self._taps: list[tuple[_InputTap, int] | None] = []
        for index in self._indices:
            activation = trace.find(maps[index])
            if activation is None and next_norm:
                activation = trace.find_behind(maps[index])
            tapped = activation is not None and activation.norm is not None
            self.stages.append(
                Stage(names[index], maps[index].shape[1], maps[index].shape[2], activation.norm if tapped else None)
            )
            self._taps.append((_attach(activation.relu), activation.call) if tapped else None)

    def __call__(self, pixel_values: torch.Tensor) -> tuple[list[torch.Tensor], Any]:
        """Forward pass.

        Args:
            pixel_values: (B, C, H, W), normalised.

        Returns:
            ``(maps, final)``: one (B, C, side, side) map per entry of ``stages``, and the final features:
            ``model.forward_head(final)`` is exactly ``model(pixel_values)``.
        """
        taps = [tap for tap in self._taps if tap is not None]
        for tap, _ in taps:
            tap.arm(True)
        try:
            final, outputs = self._run(pixel_values)
            maps = [
                output if tap is None else tap[0].inputs[tap[1]]
                for output, tap in zip(outputs, self._taps, strict=True)
            ]
        finally:
            for tap, _ in taps:  # also drops the tensors, which would keep the whole graph alive
                tap.arm(False)
        return maps, final

    def _run(self, pixel_values: torch.Tensor) -> tuple[Any, list[torch.Tensor]]:
        if isinstance(self.model, _HasIntermediates):
            return self.model.forward_intermediates(pixel_values, indices=self._indices, output_fmt="NCHW")
        final = self.model.forward_features(pixel_values)
        return final, [_as_map(final, self.model)]


def _attach(relu: nn.ReLU) -> _InputTap:
    relu.inplace = False
    tap = _InputTap()
    relu.register_forward_pre_hook(tap)
    return tap


def _choose(maps: list[torch.Tensor], max_stages: int) -> list[int]:
    """Which of the network's maps to tap, as increasing indices that end with the last."""
    count = min(max_stages, len(maps))
    if len({map_.shape for map_ in maps}) > 1:
        return list(range(len(maps) - count, len(maps)))
    return [math.ceil((i + 1) * len(maps) / count) - 1 for i in range(count)]


def _stage_names(model: nn.Module, count: int) -> list[str]:
    if not isinstance(model, _HasIntermediates):
        return ["features"]
    names = [info["module"] for info in model.feature_info]
    return names if len(names) == count else [f"stage{i}" for i in range(count)]


def _as_map(features: Any, model: nn.Module) -> torch.Tensor:
    """The one map of a network that gives no intermediate ones, (B, C, H, W).

    Tokens (B, N, C) become a square map when N, or N less one or two prefix tokens (class, distillation), is a
    square number. Whatever has no grid is pooled by the network's own head into (B, C, 1, 1).
    """
    if isinstance(features, torch.Tensor) and features.ndim == 4:
        return features if features.shape[1] == model.num_features else features.permute(0, 3, 1, 2)
    if isinstance(features, torch.Tensor) and features.ndim == 3:
        for prefix in range(3):
            side = math.isqrt(features.shape[1] - prefix)
            if side > 0 and side**2 == features.shape[1] - prefix:
                return features[:, prefix:].transpose(1, 2).unflatten(2, (side, side))
    return model.forward_head(features, pre_logits=True)[:, :, None, None]
