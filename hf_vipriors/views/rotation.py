"""Each image in four rotations: the views of distillation with self-supervision.

References:
    [0] Knowledge Distillation Meets Self-Supervision, https://arxiv.org/abs/2006.07114
"""

from __future__ import annotations

import torch
from torch import Tensor

from .classification import ClassificationViews
from .sampling import chosen

ROTATIONS = 4


class RotationViews(ClassificationViews):
    """The view of :class:`ClassificationViews` four times for each image, turned by 0, 90, 180 and 270 degrees [0].

    The four share the flip, so that they differ by a rotation and not by a reflection; each has a crop (and a
    policy's operations) of its own, so that an image is not known again by its pixels.

    Args:
        size, mean, std, crop_scale, shift, flip, auto_augment: as in :class:`ClassificationViews`.

    Shape:
        uint8 ``(B, C, H, W)`` with C 1 or 3 -> list of one float ``(4B, 3, size, size)``: rows ``4i .. 4i + 3`` are
        image i, turned counter-clockwise; row ``4i`` is upright.

    Example:
        >>> views = RotationViews(32, mean=[0.5] * 3, std=[0.5] * 3)
        >>> (rows,) = views(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), torch.Generator().manual_seed(0))
        >>> rows.shape
        torch.Size([8, 3, 32, 32])
    """

    @torch.no_grad()
    def forward(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        flipped = chosen(len(images), self.flip, generator)
        # Cropped in four passes rather than from four copies: the images are often far larger than their views.
        draws = [self.draws(len(images), generator, flipped) for _ in range(ROTATIONS)]
        crops = [self.rendered(images, draw, generator) for draw in draws]
        rows = self.augmented(torch.stack(crops, dim=1).flatten(0, 1), generator)
        turned = [torch.rot90(rows[turn::ROTATIONS], turn, dims=(2, 3)) for turn in range(ROTATIONS)]
        return [self.normalise(torch.stack(turned, dim=1).flatten(0, 1))]
