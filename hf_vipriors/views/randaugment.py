"""RandAugment with the operations and ranges of FixMatch, drawn for each image.

The formulas are those of Pillow, whose functions the tests compare with: kornia's equalisation and posterisation look
at values, for which an accelerator would have to be waited for.

References:
    [0] RandAugment: Practical Automated Data Augmentation with a Reduced Search Space,
        https://arxiv.org/abs/1909.13719
    [1] FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence, https://arxiv.org/abs/2001.07685
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .colour import luma
from .rendering import Draws, render
from .sampling import draw, to_device

RANDAUGMENT = "randaugment"
LAYERS = 2
OPERATIONS = (
    *("identity", "autocontrast", "brightness", "color", "contrast", "equalize", "posterize", "sharpness", "solarize"),
    *("rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
)
"""Of [1], table 12; each is drawn equally often."""
_FACTORS = (0.05, 0.95)  # of brightness, color, contrast and sharpness: 0 black or gray or blurred, 1 as it is
_BITS = (4, 8)
_ANGLE, _SHEAR, _SHIFT = np.pi / 6, 0.3, 0.3


class Operations(NamedTuple):
    """What was drawn, on the CPU: ``(LAYERS, B)`` numbers in :data:`OPERATIONS`, and ``(LAYERS, B)`` magnitudes, in
    [0, 1) between the ends of the operation's range."""

    numbers: np.ndarray
    magnitudes: np.ndarray


def draw_operations(count: int, generator: torch.Generator) -> Operations:
    """For each image an operation per layer, with replacement, and its magnitude."""
    shares = draw(2 * LAYERS, count, generator)
    numbers = (shares[:LAYERS] * len(OPERATIONS)).astype(np.int64)
    return Operations(np.minimum(numbers, len(OPERATIONS) - 1), shares[LAYERS:])


def randaugmented(images: Tensor, draws: Draws, size: int, generator: torch.Generator) -> Tensor:
    """Float ``(B, C, size, size)`` in [0, 1]: the views of these draws, each after two operations.

    NOTE operations on positions come first, in one sampling with the crop, and show what lies beyond the crop, and
    beyond the image its reflection, where Pillow shows black.
    """
    operations = draw_operations(len(images), generator)
    view = render(images, Draws(turned_crops(draws.crops, operations), turned=True), size)
    return recoloured(view, operations)


def turned_crops(crops: Tensor, operations: Operations) -> Tensor:
    """``crops`` ``(B, 2, 3)`` of :func:`.sampling.draw_crops`, after which the view is turned, sheared and shifted.

    One sampling for all: the first layer acts on the crop, the next one on its result.
    """
    found = torch.eye(3).repeat(len(crops), 1, 1).numpy()
    found[:, :2] = crops.numpy()
    for numbers, magnitudes in zip(*operations, strict=True):
        found = found @ _matrices(numbers, 2 * magnitudes - 1)
    return torch.from_numpy(found[:, :2].astype(np.float32))


def _matrices(numbers: np.ndarray, signed: np.ndarray) -> np.ndarray:
    """``(B, 3, 3)`` in the frame of a view, which spans [-1, 1]; ``signed`` in [-1, 1)."""
    found = np.tile(np.eye(3), (len(numbers), 1, 1))
    angle, of = _ANGLE * signed, {name: numbers == number for number, name in enumerate(OPERATIONS)}
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    found[of["rotate"], :2, :2] = turned[of["rotate"]]
    for name, row, column, size in (
        ("shear_x", 0, 1, _SHEAR),
        ("shear_y", 1, 0, _SHEAR),
        ("translate_x", 0, 2, 2 * _SHIFT),
        ("translate_y", 1, 2, 2 * _SHIFT),
    ):
        found[of[name], row, column] = size * signed[of[name]]
    return found


def recoloured(images: Tensor, operations: Operations) -> Tensor:
    """The operations on colours, layer after layer.

    Args:
        images: float ``(B, C, H, W)`` in [0, 1] with C 1 or 3; changed in place.
        operations: of :func:`draw_operations`; those on positions are left out.
    """
    for numbers, magnitudes in zip(*operations, strict=True):
        for number, name in enumerate(OPERATIONS):
            if name in COLOURS and len(rows := np.flatnonzero(numbers == number)):
                drawn = torch.from_numpy(magnitudes[rows].astype(np.float32)).view(-1, 1, 1, 1)
                where, magnitude = (to_device(each, images.device) for each in (torch.from_numpy(rows), drawn))
                images[where] = COLOURS[name](images[where], magnitude)
    return images


def autocontrast(images: Tensor, magnitude: Tensor) -> Tensor:
    """Each channel from 0 to 1; one of a single value stays."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (images - low) / spread.clamp(min=1e-12), images)


def brightness(images: Tensor, magnitude: Tensor) -> Tensor:
    """Towards black."""
    return images * _factor(magnitude)


def color(images: Tensor, magnitude: Tensor) -> Tensor:
    """Towards gray; gray images stay."""
    return images if images.shape[1] == 1 else _blended(_gray(images), images, magnitude)


def contrast(images: Tensor, magnitude: Tensor) -> Tensor:
    """Towards the mean of the gray image."""
    return _blended(_gray(images).mean(dim=(1, 2, 3), keepdim=True), images, magnitude)


def sharpness(images: Tensor, magnitude: Tensor) -> Tensor:
    """Towards an image in which each pixel but those at the border is averaged with its neighbours (5 : 1)."""
    channels = images.shape[1]
    kernel = images.new_ones(channels, 1, 3, 3)
    kernel[:, :, 1, 1] = 5
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(images, kernel / 13, groups=channels)
    return _blended(smooth, images, magnitude)


def posterize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Keep 4 to 8 bits of each value."""
    low, high = _BITS
    step = 2 ** (8 - (low + (high + 1 - low) * magnitude).floor().clamp(max=high))
    return (_bytes(images) / step).floor() * step / 255


def solarize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Invert what is at or above a threshold in [0, 1]."""
    return torch.where(images >= magnitude, 1 - images, images)


def equalize(images: Tensor, magnitude: Tensor) -> Tensor:
    """A flat histogram of the 256 values of each channel, by Pillow's whole numbers; too few values stay."""
    values = _bytes(images).flatten(2).contiguous()
    ordered = values.sort(dim=2).values
    levels = torch.arange(256, device=images.device, dtype=values.dtype).expand(*values.shape[:2], -1).contiguous()
    below = torch.searchsorted(ordered, levels)  # how many pixels are darker than each level
    largest = ordered[:, :, -1:].contiguous()
    step = torch.searchsorted(ordered, largest) // 255
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    flat = table.gather(2, values.long()).to(images.dtype) / 255
    return torch.where(step > 0, flat, images.flatten(2)).view_as(images)


COLOURS = {
    each.__name__: each
    for each in (autocontrast, brightness, color, contrast, equalize, posterize, sharpness, solarize)
}


def _factor(magnitude: Tensor) -> Tensor:
    return _FACTORS[0] + (_FACTORS[1] - _FACTORS[0]) * magnitude


def _blended(changed: Tensor, images: Tensor, magnitude: Tensor) -> Tensor:
    return changed + _factor(magnitude) * (images - changed)


def _gray(images: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else luma(images)


def _bytes(images: Tensor) -> Tensor:
    return (images * 255).round()
