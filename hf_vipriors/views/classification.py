"""The random view of supervised training and distillation: crop or shift, flip, optionally a policy.

References:
    [0] AutoAugment: Learning Augmentation Policies from Data, https://arxiv.org/abs/1805.09501
    [1] RandAugment: Practical Automated Data Augmentation with a Reduced Search Space,
        https://arxiv.org/abs/1909.13719
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .autoaugment import AutoAugment
from .randaugment import RANDAUGMENT, randaugmented
from .rendering import Draws, render
from .sampling import Normalise, draw_crops, draw_shifts

AUTO_AUGMENT_POLICIES = ("cifar10", "imagenet", RANDAUGMENT)


class ClassificationViews(nn.Module):
    """One random view of each image.

    Args:
        size: side of the view in pixels.
        mean, std: the network's normalisation.
        crop_scale: area of the crop as a share of the image. Default (0.5, 1): few images leave no room for
            crops that miss the object (NOTE 0.08 is usual on a million images).
        shift: in place of the crop the whole image, moved by up to so many pixels along each axis; its reflection
            comes in. Default 0: the crop.
        flip: probability, default 0.5.
        auto_augment: ``"cifar10"`` (the policy the published program used) or ``"imagenet"`` [0], ``"randaugment"``
            (two operations of an image's own, of any magnitude [1], see :mod:`.randaugment`) or None.

    Shape:
        uint8 ``(B, C, H, W)`` with C 1 or 3 -> list of one float ``(B, 3, size, size)``.

    Raises:
        ValueError: on an unknown AutoAugment policy.
    """

    def __init__(
        self,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        crop_scale: Sequence[float] = (0.5, 1.0),
        shift: int = 0,
        flip: float = 0.5,
        auto_augment: str | None = None,
    ):
        super().__init__()
        if auto_augment is not None and auto_augment not in AUTO_AUGMENT_POLICIES:
            raise ValueError(f"auto_augment must be one of {AUTO_AUGMENT_POLICIES}, got {auto_augment!r}")
        self.size, self.crop_scale, self.shift, self.flip = size, tuple(crop_scale), shift, flip
        self.randaugment = auto_augment == RANDAUGMENT
        learnt = auto_augment is not None and not self.randaugment
        self.learnt = AutoAugment(auto_augment) if learnt else None
        self.normalise = Normalise(mean, std)

    @torch.no_grad()
    def forward(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        draws = self.draws(len(images), generator, self.flip)
        if self.learnt is None and not self.randaugment:
            return [render(images, draws, self.size, self.normalise)]
        return [self.normalise(self.augmented(self.rendered(images, draws, generator), generator))]

    def draws(self, count: int, generator: torch.Generator, flip: float | Tensor) -> Draws:
        """Of ``count`` images the crop, or the shift, with a flip by this probability or as already drawn."""
        if self.shift:
            return Draws(draw_shifts(count, self.shift, self.size, generator, flip=flip), turned=True)
        return Draws(draw_crops(count, self.crop_scale, generator, flip=flip))

    def rendered(self, images: Tensor, draws: Draws, generator: torch.Generator) -> Tensor:
        """Float ``(B, C, size, size)`` in [0, 1], with RandAugment where it is set: it samples along with the crop."""
        if self.randaugment:
            return randaugmented(images, draws, self.size, generator)
        return render(images, draws, self.size)

    def augmented(self, view: Tensor, generator: torch.Generator) -> Tensor:
        """AutoAugment, where one is set, on float ``(B, C, size, size)`` in [0, 1], which is changed in place."""
        return view if self.learnt is None else self.learnt(view, generator)
