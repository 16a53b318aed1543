"""ResNet-50 with every layer wider, the stem too: the networks of SwAV's larger checkpoints, registered with timm.

timm's own ResNet has a 7x7 stem of 64 channels whatever the width of its stages, so it cannot hold their weights.

References:
    [0] Unsupervised Learning of Visual Features by Contrasting Cluster Assignments, https://arxiv.org/abs/2006.09882
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import Bottleneck, ResNet
from torch import nn


class WideResNet(ResNet):
    """timm's ResNet, its stem and stages ``factor`` times as wide.

    Args:
        factor: 1 is the plain network.
        in_chans: channels of the input.
        options: of :class:`timm.models.resnet.ResNet`.
    """

    def __init__(self, *, factor: int, in_chans: int = 3, **options: Any) -> None:
        # The deep stem is as wide as we want it: it gives the rest of the network its width, and is then replaced.
        super().__init__(
            in_chans=in_chans,
            channels=tuple(factor * channels for channels in (64, 128, 256, 512)),
            stem_type="deep",
            stem_width=32 * factor,
            **options,
        )
        self.conv1 = nn.Conv2d(in_chans, 64 * factor, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")


def _build(name: str, factor: int, pretrained: bool, **options: Any) -> WideResNet:
    layers = {"block": Bottleneck, "layers": (3, 4, 6, 3)}
    return build_model_with_cfg(WideResNet, name, pretrained, factor=factor, **(layers | options))


_CFG = {
    "url": "",
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "pool_size": (7, 7),
    "crop_pct": 0.875,
    "interpolation": "bilinear",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.228, 0.224, 0.225),  # as SwAV's program has it
    "first_conv": "conv1",
    "classifier": "fc",
    "license": None,
}
default_cfgs = generate_default_cfgs({f"resnet50w{factor}": _CFG for factor in (2, 4, 5)})


@register_model
def resnet50w2(pretrained: bool = False, **options: Any) -> WideResNet:
    """ResNet-50, twice as wide [0]."""
    return _build("resnet50w2", 2, pretrained, **options)


@register_model
def resnet50w4(pretrained: bool = False, **options: Any) -> WideResNet:
    """ResNet-50, four times as wide [0]."""
    return _build("resnet50w4", 4, pretrained, **options)


@register_model
def resnet50w5(pretrained: bool = False, **options: Any) -> WideResNet:
    """ResNet-50, five times as wide [0]."""
    return _build("resnet50w5", 5, pretrained, **options)
