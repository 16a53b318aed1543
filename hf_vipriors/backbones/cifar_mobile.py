"""MobileNetV2, ShuffleNet and ShuffleNetV2 for CIFAR: light students of the distillation literature.

References:
    [0] MobileNetV2: Inverted Residuals and Linear Bottlenecks, https://arxiv.org/abs/1801.04381
    [1] ShuffleNet: An Extremely Efficient Convolutional Neural Network, https://arxiv.org/abs/1707.01083
    [2] ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, https://arxiv.org/abs/1807.11164
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .cifar_net import CifarNet, conv_bn, conv_bn_relu

# Channels at width 1, blocks and stride of the seven groups of [0], table 2, sorted into the stages between which the
# side shrinks. NOTE: the second group has stride 1 here, not 2, since the images are small.
MOBILENET_STAGES = (((16, 1, 1), (24, 2, 1)), ((32, 3, 2),), ((64, 4, 2), (96, 3, 1)), ((160, 3, 2), (320, 1, 1)))


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution, linear 1x1 projection; a shortcut where the shape stays [0]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = conv_bn_relu(in_channels, hidden)
        self.depthwise = conv_bn_relu(hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = conv_bn(hidden, out_channels)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        branch = self.project(self.depthwise(self.expand(x)))
        return x + branch if self.shortcut else branch


class CifarMobileNetV2(CifarNet):
    """MobileNetV2 with four stages of side 16, 8, 4 and 2 at 32 px [0].

    Stages end in linear bottlenecks, so their maps are taken as they are. The final features are 1280 wide, behind
    a 1x1 convolution.

    NOTE: ReLU and not ReLU6, and a 1x1 expansion even where the factor is 1, as in the distillation literature.

    Args:
        width: factor of all channels but the last 1280. Default 0.5, the literature's student.
        expansion: factor inside a block, but for the first. Default 6 [0].
        options: ``num_classes``, ``in_chans``, ``global_pool`` and ``drop_rate`` of :class:`CifarNet`.

    Example:
        >>> CifarMobileNetV2().forward_features(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 1280, 2, 2])
    """

    def __init__(self, width: float = 0.5, expansion: int = 6, *, in_chans: int = 3, **options: Any) -> None:
        before = stem = int(32 * width)
        stages: list[nn.Module] = []
        channels, strides = [stem], [2]
        for groups in MOBILENET_STAGES:
            blocks: list[nn.Module] = []
            for base, depth, stride in groups:
                after = int(base * width)
                for number in range(depth):
                    factor = expansion if stages or blocks else 1
                    blocks.append(InvertedResidual(before, after, stride if number == 0 else 1, factor))
                    before = after
            stages.append(nn.Sequential(*blocks))
            channels.append(before)
            strides.append(groups[0][2])
        super().__init__(
            conv_bn_relu(in_chans, stem, 3, stride=2),
            stages,
            channels=channels,
            strides=strides,
            conv_head=conv_bn_relu(before, 1280),
            num_features=1280,
            in_chans=in_chans,
            **options,
        )


class ShuffleUnit(nn.Module):
    """Grouped 1x1, channel shuffle, 3x3 depthwise, grouped 1x1 convolution at a quarter of the width [1].

    With stride 2 the averaged input is concatenated and not added. NOTE: the ReLU behind the depthwise convolution,
    which [1] leaves out, is the distillation literature's.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int, first_groups: int) -> None:
        super().__init__()
        branch = out_channels - in_channels if stride == 2 else out_channels
        width = branch // 4
        self.conv1 = conv_bn_relu(in_channels, width, groups=first_groups)
        self.shuffle_groups = first_groups
        self.conv2 = conv_bn_relu(width, width, 3, stride=stride, groups=width)
        self.conv3 = nn.Conv2d(width, branch, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(branch)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv2(shuffle(self.conv1(x), self.shuffle_groups))
        branch = self.bn3(self.conv3(branch))
        return self.act(x + branch if self.pool is None else torch.cat([branch, self.pool(x)], dim=1))


class CifarShuffleNetV1(CifarNet):
    """ShuffleNet with three groups, behind a 1x1 stem of stride 1 [1].

    Each map ends in a ReLU behind a sum with a batch norm's output, so stage taps give it before the ReLU.

    Args:
        groups: of the 1x1 convolutions; the very first one has too few input channels for groups. Default 3.
        options: ``num_classes``, ``in_chans``, ``global_pool`` and ``drop_rate`` of :class:`CifarNet`.

    Example:
        >>> CifarShuffleNetV1().num_features
        960
    """

    def __init__(self, groups: int = 3, *, in_chans: int = 3, **options: Any) -> None:
        channels = (24, 240, 480, 960)
        stages: list[nn.Module] = []
        for before, width, depth in zip(channels, channels[1:], (4, 8, 4), strict=False):
            first = ShuffleUnit(before, width, 2, groups, first_groups=groups if stages else 1)
            others = (ShuffleUnit(width, width, 1, groups, first_groups=groups) for _ in range(depth - 1))
            stages.append(nn.Sequential(first, *others))
        super().__init__(
            conv_bn_relu(in_chans, channels[0]),
            stages,
            channels=channels,
            strides=(1, 2, 2, 2),
            in_chans=in_chans,
            **options,
        )


class ShuffleUnitV2(nn.Module):
    """One half of the channels passes, the other goes through 1x1, 3x3 depthwise and 1x1 convolution; shuffle [2]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            conv_bn_relu(half, half), conv_bn(half, half, 3, groups=half), conv_bn_relu(half, half)
        )

    def forward(self, x: Tensor) -> Tensor:
        passed, worked = x.chunk(2, dim=1)
        return shuffle(torch.cat([passed, self.branch(worked)], dim=1), 2)


class ShuffleDownV2(nn.Module):
    """Halves the side: both branches read all channels, and give half of the output each [2]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.shortcut = nn.Sequential(
            conv_bn(in_channels, in_channels, 3, stride=2, groups=in_channels), conv_bn_relu(in_channels, half)
        )
        self.branch = nn.Sequential(
            conv_bn_relu(in_channels, half), conv_bn(half, half, 3, stride=2, groups=half), conv_bn_relu(half, half)
        )

    def forward(self, x: Tensor) -> Tensor:
        return shuffle(torch.cat([self.shortcut(x), self.branch(x)], dim=1), 2)


class CifarShuffleNetV2(CifarNet):
    """ShuffleNetV2 of width 1 behind a 1x1 stem of stride 1 [2].

    Stages end in a shuffle of halves that were each rectified on their own, so their maps are taken as they are.
    The final features are 1024 wide, behind a 1x1 convolution.

    Args:
        options: ``num_classes``, ``in_chans``, ``global_pool`` and ``drop_rate`` of :class:`CifarNet`.

    Example:
        >>> [info["num_chs"] for info in CifarShuffleNetV2().feature_info]
        [24, 116, 232, 464]
    """

    def __init__(self, *, in_chans: int = 3, **options: Any) -> None:
        channels = (24, 116, 232, 464)
        stages = [
            nn.Sequential(ShuffleDownV2(before, width), *(ShuffleUnitV2(width) for _ in range(depth)))
            for before, width, depth in zip(channels, channels[1:], (3, 7, 3), strict=False)
        ]
        super().__init__(
            conv_bn_relu(in_chans, channels[0]),
            stages,
            channels=channels,
            strides=(1, 2, 2, 2),
            conv_head=conv_bn_relu(channels[-1], 1024),
            num_features=1024,
            in_chans=in_chans,
            **options,
        )


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Deal the channels of (B, C, H, W) round, so that each group of the next layer reads from every group [1].

    Example:
        >>> shuffle(torch.arange(6).reshape(1, 6, 1, 1), 2).flatten().tolist()
        [0, 3, 1, 4, 2, 5]
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
