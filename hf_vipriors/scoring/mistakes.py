"""The images that a classifier was wrong about with most confidence."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

MISTAKES = 12


def image_array(store: Any, index: int) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3)."""
    image = store[index]["pixel_values"].numpy()
    return image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)


def worst_mistakes(predictions: Tensor, labels: Tensor, store: Any) -> list[tuple]:
    """The wrong predictions made with most confidence: (image, true class, predicted class, confidence)."""
    confidence, predicted = predictions.max(dim=1)
    worst = worst_indices(predictions, labels)
    return [(image_array(store, int(i)), int(labels[i]), int(predicted[i]), float(confidence[i])) for i in worst]


def worst_indices(predictions: Tensor, labels: Tensor) -> Tensor:
    """Which images were wrong with most confidence, worst first."""
    confidence, predicted = predictions.max(dim=1)
    wrong = (predicted != labels).nonzero().squeeze(1)
    return wrong[confidence[wrong].argsort(descending=True)][:MISTAKES]
