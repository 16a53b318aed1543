"""Whether a model is as often right as it says: the expected calibration error and its reliability diagram.

References:
    [0] On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

Array = torch.Tensor | np.ndarray
BINS = 15


class ReliabilityBin(NamedTuple):
    """One bin of confidences: its edges, and what the images in it gave (None in a bin without images)."""

    low: float
    high: float
    confidence: float | None
    accuracy: float | None
    count: int  # type: ignore[assignment]  # hides a method that tuples have


def are_probabilities(rows: np.ndarray) -> bool:
    """Whether each row is >= 0 and sums to 1, to within 1e-2: bfloat16 rows are no better than that."""
    return bool(
        np.isfinite(rows).all() and rows.min(initial=0.0) >= 0 and np.allclose(rows.sum(axis=-1), 1, atol=1e-2)
    )


def reliability(probabilities: Array, labels: Array, bins: int = BINS) -> list[ReliabilityBin]:
    """Mean confidence and accuracy of the images, by confidence: a calibrated model has the two equal in every bin.

    The confidence of an image is its largest probability; the bins cut (0, 1] into equal widths, as in [0].

    Args:
        probabilities: (N, K) floats, rows that sum to 1.
        labels: (N,), integers in 0..K-1.
        bins: how many. Default 15 [0].

    Returns:
        ``(low, high, confidence, accuracy, count)`` of each bin, from low to high.

    Raises:
        ValueError: wrong shapes, no images, rows that are not probabilities, a label out of range, no bin.

    Example:
        >>> rows, labels = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]]), np.array([0, 1, 1])
        >>> [tuple(each) for each in reliability(rows, labels, bins=2)]
        [(0.0, 0.5, None, None, 0), (0.5, 1.0, 0.766..., 0.666..., 3)]
    """
    rows, truth = _checked(probabilities, labels)
    if bins < 1:
        raise ValueError(f"reliability needs one bin or more, got {bins}")
    confidence, right = rows.max(axis=1), rows.argmax(axis=1) == truth
    # A bin takes its upper edge, not its lower one; rounding may put a confidence a hair above 1.
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    found = []
    for number in range(bins):
        inside = place == number
        count = int(inside.sum())
        means = (float(confidence[inside].mean()), float(right[inside].mean())) if count else (None, None)
        found.append(ReliabilityBin(float(edges[number]), float(edges[number + 1]), *means, count))
    return found


def calibration_error(probabilities: Array, labels: Array, bins: int = BINS) -> float:
    r"""Expected calibration error of the top-1 prediction, a fraction (0 to 1).

    .. math:: \sum_b \frac{n_b}{N} \, |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    over the bins of :func:`reliability` [0].

    Args:
        probabilities: (N, K) floats, rows that sum to 1.
        labels: (N,), integers in 0..K-1.
        bins: how many. Default 15 [0].

    Raises:
        ValueError: as :func:`reliability`.

    Example:
        >>> sure_and_half_right = np.array([[1.0, 0.0], [1.0, 0.0]])
        >>> calibration_error(sure_and_half_right, np.array([0, 1]))
        0.5
    """
    found = reliability(probabilities, labels, bins)
    total = sum(each.count for each in found)
    return sum(each.count / total * abs(each.accuracy - each.confidence) for each in found if each.count)


def _checked(probabilities: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    # bfloat16 has no numpy counterpart.
    rows = torch.as_tensor(probabilities).detach().cpu().double().numpy()
    truth = torch.as_tensor(labels).detach().cpu().numpy()
    if rows.ndim != 2 or rows.size == 0 or not are_probabilities(rows):
        raise ValueError(f"expected probabilities (N, K) (>= 0, sum 1), got shape {rows.shape}: softmax logits first")
    if truth.shape != rows.shape[:1] or not np.issubdtype(truth.dtype, np.integer):
        raise ValueError(f"expected {len(rows)} integer labels, got shape {truth.shape} of {truth.dtype}")
    if truth.min() < 0 or truth.max() >= rows.shape[1]:
        raise ValueError(f"labels must lie in 0..{rows.shape[1] - 1}, found {truth.min()}..{truth.max()}")
    return rows, truth
