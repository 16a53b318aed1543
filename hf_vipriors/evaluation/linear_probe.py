"""A linear classifier on frozen features: what a network knows, in a form that a line can read off."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

logger = logging.getLogger(__name__)

Features = torch.Tensor | np.ndarray

# Inverse regularisation strengths. Few images and many features want the small end; the grid is wide enough that
# the best one is seldom its end.
COSTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_MAX_ITERATIONS = 2000


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe.

    Attributes:
        pipeline: scikit-learn's standardisation and logistic regression, fitted on the training features.
        num_classes: columns of :meth:`predict_proba`.
        cost: the C that was chosen.
        validation_accuracy: its accuracy on the validation features, 0 to 1 (chosen on them, so a little optimistic).
        accuracies: validation accuracy of every C that was tried.
    """

    pipeline: Pipeline
    num_classes: int
    cost: float
    validation_accuracy: float
    accuracies: dict[float, float]

    def predict_proba(self, features: Features) -> np.ndarray:
        """Class probabilities (M, C) of features (M, D). A class that no training image had gets probability 0.

        Raises:
            ValueError: features of another width, empty, or not finite.
        """
        array = _features(features, "features")
        width = self.pipeline.n_features_in_
        if array.shape[1] != width:
            raise ValueError(f"the probe was fitted on {width} features, got {array.shape[1]}")
        probabilities = np.zeros((len(array), self.num_classes))
        probabilities[:, self.pipeline.classes_] = self.pipeline.predict_proba(array)
        return probabilities


def linear_probe(
    train: Features,
    train_labels: Features,
    validation: Features,
    validation_labels: Features,
    *,
    costs: Sequence[float] = COSTS,
    seed: int = 0,
) -> LinearProbe:
    """Fit a logistic regression on standardised frozen features; its C is the best one on the validation images.

    Every C is fitted on the training features alone. On a tie the stronger regularisation (smaller C) wins. The test
    images must not be given here.

    Args:
        train: (N, D), train_labels: (N,) integers from 0.
        validation: (M, D), validation_labels: (M,).
        costs: values of C to try.
        seed: random state (lbfgs does not need one; kept in the record).

    Returns:
        The fitted :class:`LinearProbe`.

    Raises:
        ValueError: wrong shapes, empty input, values that are not finite, negative or fractional labels, fewer than
            two classes in training, no costs or a cost that is not above 0.

    Example:
        >>> x = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
        >>> probe = linear_probe(x, torch.tensor([0, 0, 1, 1]), x, torch.tensor([0, 0, 1, 1]))
        >>> probe.predict_proba(torch.tensor([[3.0]])).argmax(axis=1)
        array([1])
    """
    x, x_val = _features(train, "train"), _features(validation, "validation")
    y, y_val = _labels(train_labels, len(x), "train"), _labels(validation_labels, len(x_val), "validation")
    if x.shape[1] != x_val.shape[1]:
        raise ValueError(f"train features are {x.shape[1]} wide, validation features {x_val.shape[1]}")
    if len(np.unique(y)) < 2:
        raise ValueError("a linear probe needs training images of at least two classes")
    costs = sorted(float(cost) for cost in costs)
    if not costs or not costs[0] > 0:
        raise ValueError(f"costs must be above 0, and at least one, got {costs}")

    accuracies: dict[float, float] = {}
    best: tuple[float, float, Pipeline] | None = None
    for cost in costs:
        pipeline = _fit(x, y, cost, seed)
        accuracies[cost] = float((pipeline.predict(x_val) == y_val).mean())
        if best is None or accuracies[cost] > best[1]:
            best = (cost, accuracies[cost], pipeline)
    cost, accuracy, pipeline = best
    num_classes = int(max(y.max(), y_val.max())) + 1
    return LinearProbe(pipeline, num_classes, cost, accuracy, accuracies)


def _fit(x: np.ndarray, y: np.ndarray, cost: float, seed: int) -> Pipeline:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=cost, max_iter=_MAX_ITERATIONS, random_state=seed))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        pipeline.fit(x, y)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        logger.info("linear probe: C = %g had not converged after %d iterations", cost, _MAX_ITERATIONS)
    return pipeline


def _features(values: Features, name: str) -> np.ndarray:
    array = torch.as_tensor(values).detach().cpu().double().numpy()
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name}: expected features (N, D), got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: features hold values that are not finite")
    return array


def _labels(values: Features, count: int, name: str) -> np.ndarray:
    array = torch.as_tensor(values).detach().cpu().numpy()
    if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name}: expected {count} integer labels, got shape {array.shape} of {array.dtype}")
    if array.min() < 0:
        raise ValueError(f"{name}: label {array.min()} is negative: unlabelled images cannot be probed")
    return array.astype(np.int64)
