"""A weak and a strong view of each image: what consistency training compares.

References:
    [0] FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence, https://arxiv.org/abs/2001.07685
    [1] Random Erasing Data Augmentation, https://arxiv.org/abs/1708.04896
    [2] RandAugment: Practical Automated Data Augmentation with a Reduced Search Space,
        https://arxiv.org/abs/1909.13719
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .blur import draw_blur
from .classification import ClassificationViews
from .colour import draw_jitter
from .randaugment import RANDAUGMENT, randaugmented
from .rendering import Draws, render
from .sampling import chosen, draw_crops, to_device, uniform

STRONG_AUGMENTATIONS = ("jitter", RANDAUGMENT)


def random_erasing(
    images: Tensor, side: Sequence[float], probability: float, value: float, generator: torch.Generator
) -> Tensor:
    """Paint a square of each image in one gray with ``probability`` [1]; its centre lies anywhere in the image.

    Args:
        images: float ``(B, C, H, W)``.
        side: smallest and largest side of the square as a share of the image's.
        probability: an image is erased at all with this probability.
        value: the gray, on the scale of the images.
        generator: the only source of randomness.
    """
    count, (height, width) = len(images), images.shape[-2:]
    erased = chosen(count, probability, generator)
    half = uniform(count, side[0], side[1], generator) / 2
    x, y = torch.rand(count, generator=generator), torch.rand(count, generator=generator)
    columns = ((torch.arange(width) + 0.5) / width - x[:, None]).abs() < half[:, None]
    rows = ((torch.arange(height) + 0.5) / height - y[:, None]).abs() < half[:, None]
    # The two sides and not the square, which has as many numbers as the image.
    columns, rows = to_device(columns & erased[:, None], images.device), to_device(rows, images.device)
    square = rows[:, None, :, None] & columns[:, None, None, :]
    return torch.where(square, value, images)


class ConsistencyViews(ClassificationViews):
    """The view of :class:`ClassificationViews`, and a strong one of the same image [0].

    The strong view is cropped closer, turned, sheared, changed in brightness, contrast and colour, blurred, and has a
    square erased: batched stand-ins for the RandAugment and Cutout of [0], each drawn per image. With ``strong``
    ``"randaugment"`` it is [0]'s own: the crop of a weak view, two operations of :mod:`.randaugment` [2], and a gray
    square of up to half of the side.

    Args:
        size, mean, std, crop_scale, shift, flip, auto_augment: of the weak view, as in :class:`ClassificationViews`;
            ``flip`` holds for both.
        strong: ``"jitter"`` (default) or ``"randaugment"``, to which what follows does not apply.
        strong_scale: area of the strong view's crop. Default (0.3, 1).
        rotation: largest angle in degrees. Default 20.
        shear: largest horizontal shear. Default 0.2.
        jitter: strength of brightness, contrast, saturation, hue. Default (0.4, 0.4, 0.4, 0.1).
        erase: probability of an erased square, a fifth to a half of the side long. Default 0.5.

    Raises:
        ValueError: another kind of strong view.

    Shape:
        uint8 ``(B, C, H, W)`` with C 1 or 3 -> [weak, strong], float ``(B, 3, size, size)`` each.

    Example:
        >>> views = ConsistencyViews(32, mean=[0.5] * 3, std=[0.5] * 3)
        >>> weak, strong = views(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.Generator().manual_seed(0))
        >>> strong.shape
        torch.Size([4, 3, 32, 32])
    """

    def __init__(
        self,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        strong: str = "jitter",
        strong_scale: Sequence[float] = (0.3, 1.0),
        rotation: float = 20.0,
        shear: float = 0.2,
        jitter: Sequence[float] = (0.4, 0.4, 0.4, 0.1),
        erase: float = 0.5,
        **options,
    ):
        super().__init__(size, mean, std, **options)
        if strong not in STRONG_AUGMENTATIONS:
            raise ValueError(f"strong must be one of {STRONG_AUGMENTATIONS}, got {strong!r}")
        self.strong = strong
        self.strong_scale, self.rotation, self.shear = tuple(strong_scale), rotation, shear
        self.jitter, self.erase, self.gray = tuple(jitter), erase, sum(mean) / len(mean)

    @torch.no_grad()
    def forward(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        (weak,) = super().forward(images, generator)
        make = self._randaugmented if self.strong == RANDAUGMENT else self._jittered
        return [weak, self.normalise(make(images, generator))]

    def _randaugmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        view = randaugmented(images, self.draws(len(images), generator, self.flip), self.size, generator)
        return random_erasing(view, (0.0, 0.5), 1.0, self.gray, generator)

    def _jittered(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count = len(images)
        draws = Draws(
            draw_crops(count, self.strong_scale, generator, flip=self.flip, rotation=self.rotation, shear=self.shear),
            turned=bool(self.rotation or self.shear),
            jitter=draw_jitter(count, self.jitter, 0.8, generator),
            hue=bool(self.jitter[3]),
            colour=~chosen(count, 0.2, generator),
            widths=draw_blur(count, (0.1, 2.0), 0.3, generator, side=self.size),
        )
        return random_erasing(render(images, draws, self.size), (0.2, 0.5), self.erase, self.gray, generator)
