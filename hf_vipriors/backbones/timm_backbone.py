"""timm networks behind one small interface: build, normalisation statistics, feature width.

Nothing here downloads: weights come from our own training or from a checkpoint folder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psutil
import timm
import torch
from torch import nn

from ..errors import InputError, nearest

_MOST = 10_000  # all numbers of backbone_args together; the widths of a large network add up to some 4,000
# Given by this project or meant for downloads and files: none of them may come from a recipe.
RESERVED_ARGS = frozenset(
    {
        "cache_dir",
        "checkpoint_path",
        "features_only",
        "img_size",
        "num_classes",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
    }
)


def create_backbone(
    name: str, *, image_size: int, num_classes: int = 0, backbone_args: dict[str, Any] | None = None
) -> nn.Module:
    """Build a timm network with fresh random weights, ready for square images of one size.

    A network whose size is fixed when it is built (ViT, Swin, ...) is built for ``image_size``; one image is then
    sent through, so that a size the network cannot take is refused here and not in the middle of a training.

    Args:
        name: a timm name, such as ``"resnet18"``; ``timm.list_models()`` knows them all.
        image_size: side of the square input in pixels.
        num_classes: width of the classifier; 0 (default) builds the network without one.
        backbone_args: more arguments of the timm constructor, as a recipe gives them: lists become tuples.

    Returns:
        The timm module, in training mode as timm gives it.

    Raises:
        InputError: unknown name (with the nearest ones), arguments that the network does not have, an image size
            that it cannot take, or more layers or weights than a machine holds.

    Example:
        >>> small = {"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}
        >>> create_backbone("resnet18", image_size=64, backbone_args=small).num_features
        128
    """
    _check_name(name)
    arguments = {key: _tuples(value) for key, value in (backbone_args or {}).items()}
    if reserved := sorted(RESERVED_ARGS.intersection(arguments)):
        raise InputError(f"backbone_args of {name!r} may not hold {', '.join(map(repr, reserved))}: leave it out")
    shown = f" with backbone_args {backbone_args}" if backbone_args else ""
    if has_fixed_size(name):
        arguments["img_size"] = image_size
    _check_numbers(arguments, name, shown)

    def build() -> nn.Module:
        return timm.create_model(name, pretrained=False, num_classes=num_classes, **arguments)

    # Which exception a network raises for a bad argument or size is up to each of timm's hundred files.
    try:
        _check_memory(build, name, shown)
        model = build()
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"backbone {name!r} cannot be built for {image_size} px images{shown}: {_first_line(error)}"
        ) from error
    _check_image_size(model, name, image_size)
    return model


def has_fixed_size(name: str) -> bool:
    """Whether the network ``name`` is built for one image size (position embeddings, attention windows)."""
    _check_name(name)
    config = timm.get_pretrained_cfg(name)
    return config is not None and config.fixed_input_size


def normalisation(name: str) -> tuple[list[float], list[float], str, float]:
    """The preprocessing timm recommends for a network.

    Returns:
        ``(mean, std, interpolation, crop_pct)``: per-channel mean and standard deviation of pixels in 0..1, the
        name of the resizing filter, and the share of the resized shorter side that the centre crop keeps.

    Raises:
        InputError: unknown name.

    Example:
        >>> normalisation("vit_tiny_patch16_224")
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], 'bicubic', 0.9)
    """
    _check_name(name)
    known = timm.get_pretrained_cfg(name)
    config = timm.data.resolve_data_config(pretrained_cfg=known.to_dict() if known else {"input_size": (3, 224, 224)})
    return list(config["mean"]), list(config["std"]), config["interpolation"], config["crop_pct"]


def feature_dim(model: nn.Module) -> int:
    """Width of the pooled features, ``model.forward_head(features, pre_logits=True)``.

    It differs from ``num_features`` where the head has a hidden layer (MobileNetV3: 1280, not 960).
    """
    return model.head_hidden_size


def _check_name(name: str) -> None:
    if not timm.is_model(name):
        raise InputError(f"unknown backbone {name!r}: {nearest(name, timm.list_models())}")


def _tuples(value: Any) -> Any:
    """YAML and JSON know lists only, several timm networks test for tuples."""
    if isinstance(value, list | tuple):
        return tuple(_tuples(item) for item in value)
    return value


def _check_numbers(arguments: dict[str, Any], name: str, shown: str) -> None:
    """Building a layer takes a millisecond: who asks for a million of them, by mistake or not, would wait for ever."""
    if _total(list(arguments.values())) > _MOST:
        raise InputError(
            f"backbone {name!r}{shown}: its numbers add up to more than {_MOST:,}, no network is so large"
        )


def _total(value: Any) -> float:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return len(value) + sum(map(_total, value))
    return abs(value) if isinstance(value, int | float) else 0


def _check_memory(build: Callable[[], nn.Module], name: str, shown: str) -> None:
    """Build without memory first: the operating system may kill a process that asks for all there is."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        needed = sum(parameter.nbytes for parameter in build().parameters())
    there = psutil.virtual_memory().total
    if needed > there:
        raise InputError(
            f"backbone {name!r}{shown} takes {needed / 2**30:,.0f} GiB, this machine has {there / 2**30:,.0f}: build "
            "a smaller one"
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@torch.no_grad()
def _check_image_size(model: nn.Module, name: str, image_size: int) -> None:
    weight = next(model.parameters())
    if weight.is_meta:  # transformers builds here before it loads: the size was checked when the checkpoint was made
        return
    patch = model.feature_info[0]["reduction"] if has_fixed_size(name) and model.feature_info else 1
    if image_size % patch:
        # timm's patch embeddings would quietly ignore the pixels that are left over.
        raise InputError(
            f"backbone {name!r} cannot take {image_size} px images: give a multiple of its patch, {patch} px"
        )
    model.eval()
    try:
        model(weight.new_zeros(1, model.in_chans, image_size, image_size))
    except Exception as error:
        raise InputError(f"backbone {name!r} cannot take {image_size} px images: {_first_line(error)}") from error
    model.train()
