"""Fixed crops for evaluation: the one centre crop, and the ten of ten-crop testing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import ten_crop

from .sampling import Normalise, to_float


class EvaluationView(nn.Module):
    """Images that the store has already cropped as evaluation wants them -> normalised float.

    Shape:
        uint8 ``(B, C, S, S)`` -> float ``(B, 3, S, S)``.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.normalise = Normalise(mean, std)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return self.normalise(to_float(images))


class TenCrop(nn.Module):
    """Four corners and the centre, each also flipped; a model's ten predictions are averaged.

    Args:
        size: side of a crop in pixels; the images given must be larger (usually size / 0.875).
        mean, std: the network's normalisation.

    Shape:
        uint8 ``(B, C, H, W)`` -> list of ten float ``(B, 3, size, size)``.

    Raises:
        ValueError: on images smaller than a crop.
    """

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.size = size
        self.normalise = Normalise(mean, std)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        if min(images.shape[-2:]) < self.size:
            raise ValueError(f"ten-crop of {self.size} px needs larger images, got {tuple(images.shape[-2:])}")
        return [self.normalise(crop) for crop in ten_crop(to_float(images), [self.size, self.size])]
