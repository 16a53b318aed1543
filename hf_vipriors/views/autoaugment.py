"""AutoAugment as kornia has it, with a pair of operations of its own for each image.

kornia's module draws one pair for a whole batch; called for each of 25 pairs it took half of the time of a small
network's step. The tests compare with its operations.

References:
    [0] AutoAugment: Learning Augmentation Policies from Data, https://arxiv.org/abs/1805.09501
"""

from __future__ import annotations

import numpy as np
import torch
from kornia.augmentation.auto.autoaugment.autoaugment import cifar10_policy, imagenet_policy
from kornia.enhance import adjust_saturation
from torch import Tensor
from torch.nn import functional as F

from .operations import COMMON, LAYERS, OPERATIONS, Colours, Operations, matrices, recoloured, sized
from .sampling import draw, numbered, to_device

_PAIRS = {"cifar10": cifar10_policy, "imagenet": imagenet_policy}
_NAMES = {"auto_contrast": "autocontrast"}


class AutoAugment:
    r"""Each image gets one of 25 pairs of operations, each done with the pair's own probability [0].

    NOTE the size of an operation is drawn from the m-th of ten parts of its range, from one end to the other: turned
    by -30° + 6° m or up to 6° more, sheared by an angle of -54° + 10.8° m, moved by -0.5 + 0.1 m of the image, factors
    of 0.1 + 0.18 m, 4 + 0.4 m bits, inverted from 0.1 m on. In [0] sizes grow with m to both sides, and images are
    posterised and inverted the more for it; that made no difference (labels alone on CIFAR-10, 50 a class, pairs of
    ImageNet: 55.8 with [0]'s sizes and Pillow's operations, 55.8 with these, three seeds).

    Args:
        name: ``"cifar10"`` or ``"imagenet"``, what it was learnt on.

    Example:
        >>> images = torch.rand(4, 3, 32, 32)
        >>> AutoAugment("imagenet")(images, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 32, 32])
    """

    def __init__(self, name: str):
        pairs = [[(_NAMES.get(each, each), share, step or 0) for each, share, step in pair] for pair in _PAIRS[name]]
        self._numbers, self._shares, self._steps = (
            np.array([[pick(each) for each in pair] for pair in pairs])
            for pick in (lambda each: OPERATIONS.index(each[0]), lambda each: each[1], lambda each: each[2])
        )

    def draw(self, count: int, generator: torch.Generator) -> Operations:
        """The pairs of so many images; where an operation is not done it is ``identity``."""
        shares = draw(1 + 2 * LAYERS, count, generator)
        pair = numbered(shares[0], len(self._numbers))
        done = shares[1 : 1 + LAYERS].T < self._shares[pair]
        numbers = np.where(done, self._numbers[pair], OPERATIONS.index("identity")).T
        part = (self._steps[pair].T + shares[1 + LAYERS :]) / 10  # of the range
        return sized(
            numbers,
            0.1 + 1.8 * part,
            posterize=np.round(4 + 4 * part),
            solarize=part,
            rotate=np.pi / 6 * (2 * part - 1),
            shear=np.tan(0.3 * np.pi * (2 * part - 1)),
            translate=part - 0.5,
        )

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Float ``(B, C, H, W)`` in [0, 1], after the operations drawn for them; changed in place."""
        for layer in zip(*self.draw(len(images), generator), strict=True):
            images = recoloured(moved(images, *layer), *layer, COLOURS)
        return images


def moved(images: Tensor, numbers: np.ndarray, sizes: np.ndarray) -> Tensor:
    """One layer of operations on positions, bilinear, black where there is nothing; ``images`` is changed in place."""
    affine = matrices(numbers, sizes)[:, :2]
    # Positions as kornia counts them: -1 and 1 are the middles of the outermost pixels.
    sides = np.array(images.shape[:1:-1])
    affine[:, :, 2] *= sides / (sides - 1)
    if len(rows := np.flatnonzero((affine != np.eye(3)[:2]).any(axis=(1, 2)))):
        drawn = torch.from_numpy(affine[rows].astype(np.float32))
        where, found = (to_device(each, images.device) for each in (torch.from_numpy(rows), drawn))
        grid = F.affine_grid(found, [len(rows), *images.shape[1:]], align_corners=True)
        images[where] = F.grid_sample(images[where], grid, mode="bilinear", align_corners=True)
    return images


def brightness(images: Tensor, size: Tensor) -> Tensor:
    """Adds what the factor lies above one."""
    return (images + (size - 1)).clamp_(0, 1)


def color(images: Tensor, size: Tensor) -> Tensor:
    """Multiplies the saturation; gray images stay."""
    return images if images.shape[1] == 1 else adjust_saturation(images, size.flatten()).clamp_(0, 1)


def contrast(images: Tensor, size: Tensor) -> Tensor:
    """Multiplies the values."""
    return (images * size).clamp_(0, 1)


COLOURS: Colours = {**COMMON, **{each.__name__: each for each in (brightness, color, contrast)}}
