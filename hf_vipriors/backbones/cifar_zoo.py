"""The small CIFAR networks of the distillation literature, registered with timm as ``cifar_...``.

They keep the side of a 32 px image where a network for ImageNet would shrink it at once, which makes them strong on
small images and comparable with the tables of CRD, SSKD and their followers: for 100 classes each has exactly the
parameters of the network those papers trained. The wider ones are those of tables for few images (GEM, FixMatch).
Importing this package makes them known to timm::

    import timm, hf_vipriors
    timm.create_model("cifar_resnet8x4", num_classes=10)
    timm.list_models("cifar_*")

A checkpoint of one needs that import as well: timm alone does not know these architectures. There are no trained
weights to download.
"""

from __future__ import annotations

from typing import Any

import timm
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from .cifar_mobile import CifarMobileNetV2, CifarShuffleNetV1, CifarShuffleNetV2
from .cifar_net import CifarNet
from .cifar_resnet import Bottleneck, CifarResNet, CifarWideResNet
from .cifar_vgg import CifarVGG

# Statistics of the pixels of CIFAR-10's training images (Krizhevsky, 2009), as commonly rounded; CIFAR-100's differ
# by less than 0.03.
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)


def is_ours(name: str) -> bool:
    """Whether ``name`` is an architecture that timm knows only in a process that imported this package.

    Example:
        >>> is_ours("cifar_vgg8"), is_ours("resnet18")
        (True, False)
    """
    return timm.is_model(name) and timm.model_entrypoint(name).__module__.startswith(f"{__package__}.")


def _cfg(first_conv: str) -> dict[str, Any]:
    return {
        "num_classes": 100,
        "input_size": (3, 32, 32),
        "mean": CIFAR_MEAN,
        "std": CIFAR_STD,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "first_conv": first_conv,
        "classifier": "head.fc",
    }


default_cfgs = dict(
    generate_default_cfgs(
        {
            "cifar_wrn_16_1": _cfg("stem"),
            "cifar_wrn_16_2": _cfg("stem"),
            "cifar_wrn_16_4": _cfg("stem"),
            "cifar_wrn_16_8": _cfg("stem"),
            "cifar_wrn_28_2": _cfg("stem"),
            "cifar_wrn_28_10": _cfg("stem"),
            "cifar_wrn_40_1": _cfg("stem"),
            "cifar_wrn_40_2": _cfg("stem"),
            "cifar_resnet8": _cfg("stem.0"),
            "cifar_resnet20": _cfg("stem.0"),
            "cifar_resnet32": _cfg("stem.0"),
            "cifar_resnet56": _cfg("stem.0"),
            "cifar_resnet110": _cfg("stem.0"),
            "cifar_resnet8x4": _cfg("stem.0"),
            "cifar_resnet32x4": _cfg("stem.0"),
            "cifar_resnet50": _cfg("stem.0"),
            "cifar_vgg8": _cfg("stem.0.0"),
            "cifar_vgg13": _cfg("stem.0.0"),
            "cifar_mobilenetv2_half": _cfg("stem.0"),
            "cifar_shufflenet_v1": _cfg("stem.0"),
            "cifar_shufflenet_v2": _cfg("stem.0"),
        }
    )
)


def _create(network: type[CifarNet], name: str, pretrained: bool, maps: int, **arguments: Any) -> CifarNet:
    return build_model_with_cfg(
        network, name, pretrained, feature_cfg={"out_indices": tuple(range(maps))}, **arguments
    )


def _wide_resnet(name: str, pretrained: bool, **arguments: Any) -> CifarNet:
    return _create(CifarWideResNet, name, pretrained, 4, **arguments)


def _resnet(name: str, pretrained: bool, depth: int, widen: int = 1, **arguments: Any) -> CifarNet:
    # The stem of the plain networks is as wide as the first stage, that of the x4 networks half as wide.
    channels = (16, 16, 32, 64) if widen == 1 else (32, 16 * widen, 32 * widen, 64 * widen)
    own = {"depths": ((depth - 2) // 6,) * 3, "channels": channels}
    return _create(CifarResNet, name, pretrained, 4, **(own | arguments))


@register_model
def cifar_wrn_16_1(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """Wide ResNet with 16 layers."""
    return _wide_resnet("cifar_wrn_16_1", pretrained, **({"depth": 16, "width": 1} | kwargs))


@register_model
def cifar_wrn_16_2(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """Wide ResNet with 16 layers, twice the width."""
    return _wide_resnet("cifar_wrn_16_2", pretrained, **({"depth": 16, "width": 2} | kwargs))


@register_model
def cifar_wrn_16_4(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """Wide ResNet with 16 layers, four times the width."""
    return _wide_resnet("cifar_wrn_16_4", pretrained, **({"depth": 16, "width": 4} | kwargs))


@register_model
def cifar_wrn_16_8(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """Wide ResNet with 16 layers, eight times the width."""
    return _wide_resnet("cifar_wrn_16_8", pretrained, **({"depth": 16, "width": 8} | kwargs))


@register_model
def cifar_wrn_28_2(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """Wide ResNet with 28 layers, twice the width."""
    return _wide_resnet("cifar_wrn_28_2", pretrained, **({"depth": 28, "width": 2} | kwargs))


@register_model
def cifar_wrn_28_10(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """Wide ResNet with 28 layers, ten times the width."""
    return _wide_resnet("cifar_wrn_28_10", pretrained, **({"depth": 28, "width": 10} | kwargs))


@register_model
def cifar_wrn_40_1(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """Wide ResNet with 40 layers."""
    return _wide_resnet("cifar_wrn_40_1", pretrained, **({"depth": 40, "width": 1} | kwargs))


@register_model
def cifar_wrn_40_2(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """Wide ResNet with 40 layers, twice the width."""
    return _wide_resnet("cifar_wrn_40_2", pretrained, **({"depth": 40, "width": 2} | kwargs))


@register_model
def cifar_resnet8(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """ResNet with 8 layers."""
    return _resnet("cifar_resnet8", pretrained, 8, **kwargs)


@register_model
def cifar_resnet20(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """ResNet with 20 layers."""
    return _resnet("cifar_resnet20", pretrained, 20, **kwargs)


@register_model
def cifar_resnet32(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """ResNet with 32 layers."""
    return _resnet("cifar_resnet32", pretrained, 32, **kwargs)


@register_model
def cifar_resnet56(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """ResNet with 56 layers."""
    return _resnet("cifar_resnet56", pretrained, 56, **kwargs)


@register_model
def cifar_resnet110(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """ResNet with 110 layers."""
    return _resnet("cifar_resnet110", pretrained, 110, **kwargs)


@register_model
def cifar_resnet8x4(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """ResNet with 8 layers, four times the width."""
    return _resnet("cifar_resnet8x4", pretrained, 8, 4, **kwargs)


@register_model
def cifar_resnet32x4(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """ResNet with 32 layers, four times the width."""
    return _resnet("cifar_resnet32x4", pretrained, 32, 4, **kwargs)


@register_model
def cifar_resnet50(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """ResNet-50 of ImageNet with a 3x3 stem of stride 1 and no max pooling."""
    own = {"depths": (3, 4, 6, 3), "channels": (64, 256, 512, 1024, 2048), "block": Bottleneck}
    return _create(CifarResNet, "cifar_resnet50", pretrained, 5, **(own | kwargs))


@register_model
def cifar_vgg8(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """VGG with five convolutions."""
    return _create(CifarVGG, "cifar_vgg8", pretrained, 5, **({"depth": 1} | kwargs))


@register_model
def cifar_vgg13(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """VGG with ten convolutions."""
    return _create(CifarVGG, "cifar_vgg13", pretrained, 5, **({"depth": 2} | kwargs))


@register_model
def cifar_mobilenetv2_half(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """MobileNetV2 of half the width, expansion 6."""
    return _create(CifarMobileNetV2, "cifar_mobilenetv2_half", pretrained, 5, **kwargs)


@register_model
def cifar_shufflenet_v1(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """ShuffleNet with three groups."""
    return _create(CifarShuffleNetV1, "cifar_shufflenet_v1", pretrained, 4, **kwargs)


@register_model
def cifar_shufflenet_v2(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """ShuffleNetV2 of width 1."""
    return _create(CifarShuffleNetV2, "cifar_shufflenet_v2", pretrained, 4, **kwargs)
