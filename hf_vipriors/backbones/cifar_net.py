"""What the CIFAR networks share: a stem and stages without early down-sampling, behind timm's model interface."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import Any

import torch
from timm.layers import ClassifierHead
from timm.models import checkpoint
from torch import Tensor, nn


class CifarNet(nn.Module):
    """``stem``, ``layer1``, ``layer2``, ..., ``norm``, ``conv_head``, then ``head``: pooling and a linear classifier.

    Sub-classes build the parts; everything that timm expects of a model is here. Pooling is global, so any image
    size works that survives the strides.

    Args:
        stem: images (B, in_chans, H, W) to the first map.
        stages: the modules that become ``layer1``, ``layer2``, ...
        channels: width of the stem's map and of each stage's.
        strides: by how much the stem and each stage shrink the map.
        norm: what stands between the last stage and the head in a pre-activation network; nothing by default.
        conv_head: 1x1 convolution that widens the last map before it is pooled; nothing by default.
        num_features: width of the final features; by default that of the last stage.
        num_classes: width of the classifier, 0 builds none.
        in_chans: channels of the images.
        global_pool: timm's name of the pooling, ``""`` for none.
        drop_rate: dropout in front of the classifier.

    Attributes:
        feature_info: per map, shallow to deep, ``num_chs``, ``reduction`` and ``module``, as timm has it.
        num_features, head_hidden_size: width of the final map, and of the pooled features.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        norm: nn.Module | None = None,
        conv_head: nn.Module | None = None,
        num_features: int | None = None,
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.grad_checkpointing = False
        names = ["stem", *(f"layer{i}" for i in range(1, len(stages) + 1))]
        for name, module in zip(names, [stem, *stages], strict=True):
            self.add_module(name, module)
        self.feature_info = [
            {"num_chs": width, "reduction": reduction, "module": name}
            for width, reduction, name in zip(channels, accumulate(strides, mul), names, strict=True)
        ]
        self.norm = norm or nn.Identity()
        self.conv_head = conv_head or nn.Identity()
        self.num_features = num_features or channels[-1]
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        self.head_hidden_size = self.head.num_features
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that sort parameters by depth, for layer-wise learning rates: by stage, or by block."""
        block = r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"
        return {"stem": r"^stem", "blocks": [(block, None), (r"^(?:norm|conv_head)", (99999,))]}

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each stage in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """The linear classifier; an identity in a network without one."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a fresh one.

        Args:
            num_classes: its width, 0 for none.
            global_pool: timm's name of a new pooling; None keeps the one there is.
        """
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)
        self.head_hidden_size = self.head.num_features

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Final features, and the maps behind the stem and behind each stage.

        Args:
            x: images (B, in_chans, H, W), normalised.
            indices: which maps: the last n for an int, all for None, or their numbers (negative from the end).
            norm: apply the norm of a pre-activation network to the map of its last stage.
            stop_early: run nothing behind the last map asked for.
            output_fmt: ``"NCHW"``, there is no other.
            intermediates_only: return the maps alone.

        Returns:
            ``(features, maps)`` with maps (B, C, H, W), or ``maps``. The features are those of
            :meth:`forward_features`, unless ``stop_early`` cut the way short: then the last map computed.

        Raises:
            ValueError: another ``output_fmt``, or a map that does not exist.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        stages = self._stages()
        wanted = self._wanted(indices)
        deepest = max(wanted)
        maps = []
        for index, stage in enumerate(stages[: deepest + 1] if stop_early else stages):
            x = self._run(stage, x)
            if index in wanted:
                maps.append(self.norm(x) if norm and index == len(stages) - 1 else x)
        if intermediates_only:
            return maps
        if not stop_early or deepest == len(stages) - 1:
            x = self.conv_head(self.norm(x))
        return x, maps

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what is not needed for the maps asked for; the classifier goes with what it reads.

        Args:
            indices: as in :meth:`forward_intermediates`.
            prune_norm: drop the norm of a pre-activation network as well.
            prune_head: drop the 1x1 convolution in front of the pooling, and the classifier.

        Returns:
            The numbers of the maps asked for, counted from 0.

        Raises:
            ValueError: a map that does not exist.
        """
        wanted = self._wanted(indices)
        deepest = max(wanted)
        shorter = deepest < len(self.feature_info) - 1
        for info in self.feature_info[deepest + 1 :]:
            self.add_module(info["module"], nn.Identity())
        if prune_norm or shorter:
            self.norm = nn.Identity()
        if prune_head or shorter:
            self.conv_head = nn.Identity()
            self.num_features = self.head.in_features = self.feature_info[deepest]["num_chs"]
            self.reset_classifier(0)
        return wanted

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to the final map (B, num_features, h, w)."""
        for stage in self._stages():
            x = self._run(stage, x)
        return self.conv_head(self.norm(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Final map to logits (B, num_classes), or with ``pre_logits`` to what the classifier would read."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def _wanted(self, indices: int | Sequence[int] | None) -> list[int]:
        count = len(self.feature_info)
        if indices is None:
            return list(range(count))
        given = range(-indices, 0) if isinstance(indices, int) else indices
        if not given or any(not -count <= index < count for index in given):
            raise ValueError(f"indices {indices}: this network has {count} maps")
        return [index % count for index in given]

    def _stages(self) -> list[nn.Module]:
        return [self.get_submodule(info["module"]) for info in self.feature_info]

    def _run(self, stage: nn.Module, x: Tensor) -> Tensor:
        # The stem is fed images, which want no gradient, and is cheap: nothing to gain there.
        if self.grad_checkpointing and self.training and stage is not self.stem:
            return checkpoint(stage, x)
        return stage(x)


def conv_bn(
    in_channels: int, out_channels: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Sequential:
    """Convolution that keeps the side (divided by the stride), and batch norm."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=bias),
        nn.BatchNorm2d(out_channels),
    )


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int = 1, **options: Any) -> nn.Sequential:
    """:func:`conv_bn` and a ReLU."""
    return conv_bn(in_channels, out_channels, kernel, **options).append(nn.ReLU(inplace=True))
