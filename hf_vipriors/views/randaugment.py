"""RandAugment with the operations and ranges of FixMatch, drawn for each image.

References:
    [0] RandAugment: Practical Automated Data Augmentation with a Reduced Search Space,
        https://arxiv.org/abs/1909.13719
    [1] FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence, https://arxiv.org/abs/2001.07685
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .colour import luma
from .operations import COMMON, LAYERS, OPERATIONS, Colours, Operations, blended, matrices, recoloured, sized
from .rendering import Draws, render
from .sampling import draw, numbered

RANDAUGMENT = "randaugment"
DRAWN = OPERATIONS[: OPERATIONS.index("invert")]
"""Of [1], table 12; each is drawn equally often."""


def draw_operations(count: int, generator: torch.Generator) -> Operations:
    """For each image an operation per layer, with replacement, anywhere in the range that it has in [1]."""
    shares = draw(2 * LAYERS, count, generator)
    numbers = numbered(shares[:LAYERS], len(DRAWN))
    shares = shares[LAYERS:]
    signed = 2 * shares - 1
    return sized(
        numbers,
        np.float32(0.05) + np.float32(0.9) * shares,
        posterize=np.minimum(np.floor(4 + 5 * shares), 8),
        solarize=shares,
        rotate=np.float32(np.pi / 6) * signed,
        shear=np.float32(0.3) * signed,
        translate=np.float32(0.3) * signed,
    )


def randaugmented(images: Tensor, draws: Draws, size: int, generator: torch.Generator) -> Tensor:
    """Float ``(B, C, size, size)`` in [0, 1]: the views of these draws, each after two operations.

    NOTE operations on positions come first, in one sampling with the crop, and show what lies beyond the crop, and
    beyond the image its reflection, where Pillow shows black.
    """
    operations = draw_operations(len(images), generator)
    view = render(images, Draws(turned_crops(draws.crops, operations), turned=True), size)
    for layer in zip(*operations, strict=True):
        view = recoloured(view, *layer, COLOURS)
    return view


def turned_crops(crops: Tensor, operations: Operations) -> Tensor:
    """``crops`` ``(B, 2, 3)`` of :func:`.sampling.draw_crops`, after which the view is turned, sheared and shifted.

    One sampling for all: the first layer acts on the crop, the next one on its result.
    """
    found = torch.eye(3).repeat(len(crops), 1, 1).numpy()
    found[:, :2] = crops.numpy()
    for layer in zip(*operations, strict=True):
        found = found @ matrices(*layer)
    return torch.from_numpy(found[:, :2].astype(np.float32))


def brightness(images: Tensor, size: Tensor) -> Tensor:
    """Towards black."""
    return images * size


def color(images: Tensor, size: Tensor) -> Tensor:
    """Towards gray; gray images stay."""
    return images if images.shape[1] == 1 else blended(luma(images), images, size)


def contrast(images: Tensor, size: Tensor) -> Tensor:
    """Towards the mean of the gray image."""
    gray = images if images.shape[1] == 1 else luma(images)
    return blended(gray.mean(dim=(1, 2, 3), keepdim=True), images, size)


COLOURS: Colours = {**COMMON, **{each.__name__: each for each in (brightness, color, contrast)}}
