"""Which images are worth a label: those that the model is unsure of, and not all of one kind."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

CANDIDATES = 10
"""Times as many of the least certain images as are asked for are clustered; 10 to 50 in [0]."""


def choose(features: Tensor, probabilities: Tensor | None, count: int, *, seed: int = 0) -> np.ndarray:
    r"""Choose images to label next by uncertainty and diversity [0].

    The ``10 count`` images with the smallest margin between their two most probable classes are clustered into
    ``count`` groups by k-means of their normalised features, each weighted by its uncertainty, one minus that margin;
    of each group the image nearest to its centre is taken. Without probabilities all images are clustered alike, which
    covers what there is to see when nothing is labelled yet. Of equal images one is taken where there are others.

    Args:
        features: (N, D) of the model itself.
        probabilities: (N, K) of its classes; None: it has none.
        count: images to choose; where there are fewer, all are.
        seed: of the first centres of k-means.

    Returns:
        (min(count, N),) int64 row numbers, the least certain image first.

    Raises:
        ValueError: ``count`` below 1, or shapes that do not fit.

    Example:
        >>> import torch
        >>> features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.0]])
        >>> sure = torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.6, 0.4], [1.0, 0.0]])
        >>> choose(features, sure, 2).tolist()
        [0, 2]

    [0] Zhdanov, Diverse mini-batch Active Learning, arXiv 1901.05954
    """
    if count < 1 or (probabilities is not None and len(probabilities) != len(features)):
        raise ValueError(f"count is {count}, {len(features)} features: need at least 1, and probabilities of each")
    uncertainty = np.ones(len(features))
    if probabilities is not None and probabilities.shape[1] > 1:
        best = probabilities.double().topk(2, dim=1).values
        uncertainty = (1 - (best[:, 0] - best[:, 1])).numpy()
    order = np.argsort(-uncertainty, kind="stable")
    if probabilities is not None:
        order = order[: CANDIDATES * count]
    if len(order) <= count:
        return order
    points = F.normalize(features.float(), dim=1).numpy()[order]
    groups = min(count, len(np.unique(points, axis=0)))
    # What is quite certain weighs almost nothing, but k-means wants weights above zero.
    means = KMeans(groups, n_init=1, random_state=seed).fit(points, sample_weight=uncertainty[order].clip(1e-6))
    distance = means.transform(points)
    nearest = {int(np.flatnonzero(means.labels_ == group)[distance[means.labels_ == group, group].argmin()])
               for group in np.unique(means.labels_)}  # fmt: skip
    # Where many images are equal: the least certain of the others.
    rest = (position for position in range(len(order)) if position not in nearest)
    while len(nearest) < count:
        nearest.add(next(rest))
    return order[sorted(nearest)]
