"""Operations that augmentation policies make of images, each image with its own and as far as was drawn for it.

The formulas are those of Pillow, whose functions the tests compare with. None looks at an image's values, for which an
accelerator would have to be waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .sampling import to_device

OPERATIONS = (
    *("identity", "autocontrast", "brightness", "color", "contrast", "equalize", "posterize", "sharpness", "solarize"),
    *("rotate", "shear_x", "shear_y", "translate_x", "translate_y", "invert"),
)

LAYERS = 2  # operations that an image gets, one after another


class Operations(NamedTuple):
    """What was drawn for each image of a batch, layer after layer, on the CPU.

    Attributes:
        numbers: ``(L, B)`` in :data:`OPERATIONS`.
        sizes: float ``(L, B)``, how far each goes: ``rotate`` in radians; ``shear`` as a share of the other axis;
            ``translate`` of the image's side; of ``brightness``, ``color``, ``contrast`` and ``sharpness`` the factor
            (1: as it is); ``posterize`` the bits that stay; ``solarize`` the threshold in [0, 1]. Others have none.
    """

    numbers: np.ndarray
    sizes: np.ndarray


def sized(numbers: np.ndarray, factors: np.ndarray, **others: np.ndarray) -> Operations:
    """Of each operation its own size; that of ``shear`` and of ``translate`` is for both axes."""
    sizes = factors
    for number, name in enumerate(OPERATIONS):
        found = others.get(name.removesuffix("_x").removesuffix("_y"))
        if found is not None:
            sizes = np.where(numbers == number, found, sizes)
    return Operations(numbers, sizes)


def matrices(numbers: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """``(B, 3, 3)``, where operations on positions look, in a frame in which the image spans [-1, 1]."""
    found = np.tile(np.eye(3), (len(numbers), 1, 1))
    of = {name: numbers == number for number, name in enumerate(OPERATIONS)}
    turned = np.array([[np.cos(sizes), -np.sin(sizes)], [np.sin(sizes), np.cos(sizes)]]).transpose(2, 0, 1)
    found[of["rotate"], :2, :2] = turned[of["rotate"]]
    for name, row, column, side in (
        ("shear_x", 0, 1, 1),
        ("shear_y", 1, 0, 1),
        ("translate_x", 0, 2, 2),
        ("translate_y", 1, 2, 2),
    ):
        found[of[name], row, column] = side * sizes[of[name]]
    return found


Colours = Mapping[str, Callable[[Tensor, Tensor], Tensor]]
"""Operation -> float ``(B, C, H, W)`` in [0, 1], with C 1 or 3, and ``(B, 1, 1, 1)`` sizes -> the images after it."""


def recoloured(images: Tensor, numbers: np.ndarray, sizes: np.ndarray, colours: Colours) -> Tensor:
    """One layer of operations on colours; ``images`` is changed in place, and stays where another is drawn."""
    for name, operation in colours.items():
        if len(rows := np.flatnonzero(numbers == OPERATIONS.index(name))):
            drawn = torch.from_numpy(sizes[rows].astype(np.float32)).view(-1, 1, 1, 1)
            where, size = (to_device(each, images.device) for each in (torch.from_numpy(rows), drawn))
            images[where] = operation(images[where], size)
    return images


def autocontrast(images: Tensor, size: Tensor) -> Tensor:
    """Each channel from 0 to 1; one of a single value stays."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (images - low) / spread.clamp(min=1e-12), images)


def sharpness(images: Tensor, size: Tensor) -> Tensor:
    """Towards an image in which each pixel but those at the border is averaged with its neighbours (5 : 1)."""
    channels = images.shape[1]
    kernel = images.new_ones(channels, 1, 3, 3)
    kernel[:, :, 1, 1] = 5
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(images, kernel / 13, groups=channels)
    return blended(smooth, images, size)


def posterize(images: Tensor, size: Tensor) -> Tensor:
    """Keep so many of a value's eight bits."""
    step = 2 ** (8 - size)
    return (_bytes(images) / step).floor() * step / 255


def solarize(images: Tensor, size: Tensor) -> Tensor:
    """Invert what is at or above a threshold in [0, 1]."""
    return torch.where(images >= size, 1 - images, images)


def equalize(images: Tensor, size: Tensor) -> Tensor:
    """A flat histogram of the 256 values of each channel, by Pillow's whole numbers; too few values stay."""
    values = _bytes(images).flatten(2).long()
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(2, values, torch.ones_like(values))  # whole numbers: in whatever order they are added
    largest = counts.gather(2, values.amax(dim=2, keepdim=True))
    step = (values.shape[2] - largest) // 255
    below = counts.cumsum(dim=2) - counts  # how many pixels are darker than each level
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    flat = table.gather(2, values).to(images.dtype) / 255
    return torch.where(step > 0, flat, images.flatten(2)).view_as(images)


def invert(images: Tensor, size: Tensor) -> Tensor:
    """The negative."""
    return 1 - images


COMMON: Colours = {each.__name__: each for each in (autocontrast, equalize, invert, posterize, sharpness, solarize)}
"""Those on which all agree."""


def blended(changed: Tensor, images: Tensor, size: Tensor) -> Tensor:
    """From ``changed``, of size 0, to the image, of size 1, and beyond."""
    return (changed + size * (images - changed)).clamp_(0, 1)


def _bytes(images: Tensor) -> Tensor:
    return (images * 255).round()
