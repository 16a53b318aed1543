"""ResNet and Wide ResNet for CIFAR, with and without pre-activation.

References:
    [0] Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385
    [1] Wide Residual Networks, https://arxiv.org/abs/1605.07146
    [2] Identity Mappings in Deep Residual Networks, https://arxiv.org/abs/1603.05027
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .cifar_net import CifarNet, conv_bn, conv_bn_relu


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, ReLU behind the sum [0].

    NOTE: where the shape changes the shortcut is a 1x1 convolution with batch norm (option B of [0]), as in the
    distillation literature; the CIFAR networks of [0] pad with zeros (option A) and have fewer parameters.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = _projection(in_channels, out_channels, stride)
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.act1(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(branch))
        return self.act2(branch + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolution at a quarter of the width, ReLU behind the sum [0]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        width = out_channels // 4
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _projection(in_channels, out_channels, stride)
        self.act3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.act1(self.bn1(self.conv1(x)))
        branch = self.act2(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return self.act3(branch + (x if self.downsample is None else self.downsample(x)))


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU in front of each of two 3x3 convolutions [1, 2].

    The output is the bare sum: batch norm and ReLU follow in the next block. Where the width changes, the shortcut
    is a 1x1 convolution that reads the activated input, without a norm of its own.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.act1(self.bn1(x))
        branch = self.conv2(self.act2(self.bn2(self.conv1(activated))))
        return branch + (x if self.downsample is None else self.downsample(activated))


class CifarResNet(CifarNet):
    """ResNet behind a 3x3 stem of stride 1 [0]; every stage but the first halves the side.

    Each map ends in a ReLU behind a batch norm, so :class:`~hf_vipriors.backbones.StageTaps` gives it before the
    ReLU, and that norm.

    Args:
        depths: blocks per stage; (3, 3, 3) is ResNet-20, 6n + 2 layers with n blocks a stage.
        channels: width of the stem's output and of each stage's.
        block: :class:`BasicBlock`, or :class:`Bottleneck` whose inner width is a quarter.
        options: ``num_classes``, ``in_chans``, ``global_pool`` and ``drop_rate`` of :class:`CifarNet`.

    Example:
        >>> import torch
        >>> CifarResNet(depths=(1, 1, 1))(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 100])
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 3),
        channels: Sequence[int] = (16, 16, 32, 64),
        block: type[nn.Module] = BasicBlock,
        *,
        in_chans: int = 3,
        **options: Any,
    ) -> None:
        strides = _strides(depths)
        super().__init__(
            conv_bn_relu(in_chans, channels[0], 3),
            _stages(block, depths, channels, strides),
            channels=channels,
            strides=strides,
            in_chans=in_chans,
            **options,
        )


class CifarWideResNet(CifarNet):
    """Wide ResNet: pre-activation blocks, ``width`` times the channels of a CIFAR ResNet [1].

    A stage's map, and what :class:`~hf_vipriors.backbones.StageTaps` gives, is the bare sum of its last block: no
    ReLU has cut it, and ``Stage.norm`` is None because the batch norm and ReLU that follow belong to the next
    block. Those behind the last stage are ``norm``: the final features have it,
    ``forward_intermediates(norm=True)`` applies it to the last map. The stem is the first convolution alone.

    Args:
        depth: number of layers, 6n + 4 with n blocks a stage.
        width: k, the factor of the channels 16, 32 and 64.
        options: ``num_classes``, ``in_chans``, ``global_pool`` and ``drop_rate`` of :class:`CifarNet`.

    Raises:
        ValueError: a depth that is not 6n + 4.

    Example:
        >>> [info["num_chs"] for info in CifarWideResNet(depth=10, width=2).feature_info]
        [16, 32, 64, 128]
    """

    def __init__(self, depth: int = 40, width: int = 2, *, in_chans: int = 3, **options: Any) -> None:
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"a wide ResNet has 6n + 4 layers, such as 16 or 40, not {depth}")
        depths, channels = (blocks,) * 3, (16, 16 * width, 32 * width, 64 * width)
        strides = _strides(depths)
        super().__init__(
            nn.Conv2d(in_chans, 16, 3, padding=1, bias=False),
            _stages(PreActivationBlock, depths, channels, strides),
            channels=channels,
            strides=strides,
            norm=nn.Sequential(nn.BatchNorm2d(channels[-1]), nn.ReLU(inplace=True)),
            in_chans=in_chans,
            **options,
        )


def _strides(depths: Sequence[int]) -> list[int]:
    """Stem and first stage keep the side, every later stage halves it."""
    return [1, 1] + [2] * (len(depths) - 1)


def _stages(
    block: type[nn.Module], depths: Sequence[int], channels: Sequence[int], strides: Sequence[int]
) -> list[nn.Sequential]:
    shapes = zip(depths, channels[:-1], channels[1:], strides[1:], strict=True)
    return [
        nn.Sequential(block(before, width, stride), *(block(width, width, 1) for _ in range(depth - 1)))
        for depth, before, width, stride in shapes
    ]


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return conv_bn(in_channels, out_channels, stride=stride)
