"""VGG for CIFAR: 3x3 convolutions with batch norm, max pooling between the stages, one linear classifier.

References:
    [0] Very Deep Convolutional Networks for Large-Scale Image Recognition, https://arxiv.org/abs/1409.1556
"""

from __future__ import annotations

from typing import Any

from torch import nn

from .cifar_net import CifarNet, conv_bn_relu

CHANNELS = (64, 128, 256, 512, 512)
STRIDES = (1, 2, 2, 2, 1)


class CifarVGG(CifarNet):
    """Five stages of 3x3 convolutions [0], each with bias, batch norm and ReLU.

    NOTE: for 32 px the distillation literature pools three times only, in front of ``layer1`` to ``layer3``; global
    average pooling and one linear layer stand for the three wide layers of [0]. A stage's map is taken before the
    pooling that follows, as in [0]'s numbering.

    Args:
        depth: convolutions per stage; 1 is VGG-8, 2 is VGG-13.
        options: ``num_classes``, ``in_chans``, ``global_pool`` and ``drop_rate`` of :class:`CifarNet`.

    Example:
        >>> [info["reduction"] for info in CifarVGG(depth=1).feature_info]
        [1, 2, 4, 8, 8]
    """

    def __init__(self, depth: int = 2, *, in_chans: int = 3, **options: Any) -> None:
        stages = []
        for before, width, stride in zip((in_chans, *CHANNELS), CHANNELS, STRIDES, strict=False):
            widths = [before] + [width] * depth
            convolutions = [conv_bn_relu(a, b, 3, bias=True) for a, b in zip(widths, widths[1:], strict=False)]
            stages.append(nn.Sequential(*([nn.MaxPool2d(2)] if stride == 2 else []), *convolutions))
        super().__init__(stages[0], stages[1:], channels=CHANNELS, strides=STRIDES, in_chans=in_chans, **options)
