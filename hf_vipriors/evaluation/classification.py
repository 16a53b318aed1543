"""Scoring class probabilities: accuracy with its interval, per class, confusion, calibration; and ensembles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from .calibration import are_probabilities, calibration_error
from .statistics import wilson_interval

Array = torch.Tensor | np.ndarray
_MOST_CLASSES = 1000  # of which a confusion matrix is kept


@dataclass(frozen=True)
class ClassificationScore:
    """What one model scored on one set of images; every accuracy is a fraction, 0 to 1.

    Attributes:
        top1: fraction whose true class scores highest.
        top5: fraction whose true class is among the five highest, None with five classes or fewer.
        interval: Wilson 95 % interval of top1: what other test images of the same kind might give.
        balanced_accuracy: mean of the per-class accuracies over the classes that occur.
        per_class: class name -> accuracy, None for a class without images.
        confusion: (K, K) counts, row = true class, column = predicted class; None beyond 1,000 classes: nobody could
            read it, and it would take gigabytes.
        count: number of images.
        calibration_error: expected calibration error (15 bins) of the top-1 prediction; None where the rows scored are
            not probabilities.
    """

    top1: float
    top5: float | None
    interval: tuple[float, float]
    balanced_accuracy: float
    per_class: dict[str, float | None]
    confusion: list[list[int]] | None
    count: int
    calibration_error: float | None = None

    def to_dict(self) -> dict:
        """The same numbers as plain JSON types."""
        return {**asdict(self), "interval": list(self.interval)}


def score(probabilities: Array, labels: Array, class_names: Sequence[str]) -> ClassificationScore:
    """Score rows of class probabilities (logits rank the same) with the metric module that ships in the package.

    Args:
        probabilities: (N, K), larger is better. Ranked in float32; equal scores rank in class order.
        labels: (N,), integers in 0..K-1.
        class_names: K different names.

    Returns:
        A :class:`ClassificationScore`.

    Raises:
        ValueError: wrong shapes, no images, values that are not finite, a label out of range, names that do not fit.

    Example:
        >>> result = score(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), ["cat", "dog"])
        >>> result.top1, result.per_class
        (0.5, {'cat': 1.0, 'dog': 0.0})
    """
    scores = _array(probabilities).astype(np.float32)
    truth = _array(labels)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"expected probabilities (N, K), got shape {scores.shape}")
    if truth.shape != scores.shape[:1] or not np.issubdtype(truth.dtype, np.integer):
        raise ValueError(f"expected {len(scores)} integer labels, got shape {truth.shape} of {truth.dtype}")
    classes = scores.shape[1]
    if len(class_names) != classes or len(set(class_names)) != classes:
        raise ValueError(f"expected {classes} different class names, got {list(class_names)}")

    # Imported here: the module imports `evaluate`, which pulls in transformers' pipelines and takes seconds.
    from hf_vipriors.evaluation.metrics.vipriors_accuracy.vipriors_accuracy import accuracies

    measured = accuracies(scores, truth)
    predictions, confusion = scores.argmax(axis=1), None
    if classes <= _MOST_CLASSES:
        counts = np.bincount(truth * classes + predictions, minlength=classes**2)
        confusion = counts.reshape(classes, classes).tolist()
    return ClassificationScore(
        top1=measured["top1"],
        top5=measured["top5"],
        interval=wilson_interval(int((predictions == truth).sum()), len(truth)),
        balanced_accuracy=measured["balanced_accuracy"],
        per_class=dict(zip(class_names, measured["per_class_accuracy"], strict=True)),
        confusion=confusion,
        count=len(truth),
        calibration_error=calibration_error(scores, truth) if are_probabilities(scores) else None,
    )


def ensemble(probabilities: Sequence[Array]) -> Array:
    """Mean of several models' class probabilities for the same images.

    Probabilities, not logits: a mean of logits lets the model with the largest scale decide alone.

    Args:
        probabilities: one (N, K) array or tensor a model, rows that sum to 1.

    Returns:
        (N, K), of the kind (tensor or array) of the first.

    Raises:
        ValueError: none given, two shapes, or rows that are not probabilities.

    Example:
        >>> ensemble([np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])])
        array([[0.75, 0.25]])
    """
    if len(probabilities) == 0:
        raise ValueError("an ensemble needs at least one model's probabilities")
    arrays = [_array(rows).astype(np.float64) for rows in probabilities]
    if arrays[0].ndim != 2 or any(rows.shape != arrays[0].shape for rows in arrays):
        raise ValueError(f"expected one shape (N, K) for all models, got {[rows.shape for rows in arrays]}")
    for number, rows in enumerate(arrays):
        if not are_probabilities(rows):
            raise ValueError(f"model {number}: rows are not probabilities (>= 0, sum 1): apply a softmax to logits")
    mean = np.mean(arrays, axis=0)
    first = probabilities[0]
    return torch.as_tensor(mean).to(first) if isinstance(first, torch.Tensor) else mean.astype(first.dtype)


def _array(values: Array) -> np.ndarray:
    # bfloat16 has no numpy counterpart, so floats go through float64.
    tensor = torch.as_tensor(values).detach().cpu()
    return tensor.double().numpy() if tensor.is_floating_point() else tensor.numpy()
