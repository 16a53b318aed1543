"""Which images are worth a label: those a model is unsure of; with no label yet, some of every kind that there is."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

CANDIDATES = 10
"""Times as many of the least certain images as are asked for are clustered; 10 to 50 in [0]."""


def choose(features: Tensor, probabilities: Tensor, count: int, *, seed: int = 0) -> np.ndarray:
    r"""Choose images to label next by uncertainty and diversity [0].

    The ``10 count`` images with the smallest margin between their two most probable classes are clustered into
    ``count`` groups by k-means of their normalised features, each weighted by its uncertainty, one minus that margin;
    of each group the image nearest to its centre is taken. Of equal images one is taken where there are others.

    Args:
        features: (N, D) of the model itself.
        probabilities: (N, K) of its classes.
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
    if count < 1 or len(probabilities) != len(features):
        raise ValueError(f"count is {count}, {len(features)} features: need at least 1, and probabilities of each")
    uncertainty = np.ones(len(features))
    if probabilities.shape[1] > 1:
        best = probabilities.double().topk(2, dim=1).values
        uncertainty = (1 - (best[:, 0] - best[:, 1])).numpy()
    order = np.argsort(-uncertainty, kind="stable")[: CANDIDATES * count]
    if len(order) <= count:
        return order
    # What is quite certain weighs almost nothing, but k-means wants weights above zero.
    _, rank = _clusters(_unit(features)[order], count, seed, weights=uncertainty[order].clip(1e-6))
    nearest = set(np.flatnonzero(rank == 0).tolist())
    # Where many images are equal: the least certain of the others.
    rest = (position for position in range(len(order)) if position not in nearest)
    while len(nearest) < count:
        nearest.add(next(rest))
    return order[sorted(nearest)]


def choose_of_clusters(features: Tensor, count: int, clusters: int, *, seed: int = 0) -> list[tuple[np.ndarray, int]]:
    """Choose images where nothing is labelled: of each cluster of the normalised features those nearest its centre.

    Every cluster gives as many, as far as it has them. Of equal images one is taken.

    Args:
        features: (N, D).
        count: images to choose, in all; fewer where there are not so many different ones.
        clusters: of k-means; fewer where there are not so many different images, or not so many are chosen.
        seed: of the first centres of k-means.

    Returns:
        For each cluster, the largest first, the row numbers chosen, the one nearest to the centre first, and how many
        images it holds.

    Raises:
        ValueError: ``count`` or ``clusters`` below 1.

    Example:
        >>> import torch
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, -0.2], [0.0, 1.0], [0.0, 1.0]])
        >>> [(rows.tolist(), size) for rows, size in choose_of_clusters(features, 3, clusters=2)]
        [([0, 1], 3), ([3], 2)]
    """
    if count < 1 or clusters < 1:
        raise ValueError(f"count is {count}, clusters is {clusters}: need at least 1")
    points, first, copies = np.unique(_unit(features), axis=0, return_index=True, return_counts=True)
    group, rank = _clusters(points, min(clusters, count), seed)
    sizes = np.bincount(group, weights=copies).astype(int)
    by_rank = np.lexsort((-sizes[group], rank))[:count]
    chosen = [by_rank[group[by_rank] == each] for each in np.argsort(-sizes, kind="stable")]
    return [(first[rows], int(sizes[group[rows[0]]])) for rows in chosen]


def _unit(features: Tensor) -> np.ndarray:
    return F.normalize(features.float(), dim=1).numpy()


def _clusters(
    points: np.ndarray, count: int, seed: int, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """For each point its cluster, numbered from 0 without gaps, and its place in it by the distance to the centre."""
    groups = min(count, len(np.unique(points, axis=0)))
    means = KMeans(groups, n_init=1, random_state=seed).fit(points, sample_weight=weights)
    _, group = np.unique(means.labels_, return_inverse=True)
    distance = means.transform(points)[np.arange(len(points)), means.labels_]
    order = np.lexsort((distance, group))
    rank = np.empty(len(points), int)
    rank[order] = np.arange(len(points)) - np.searchsorted(group[order], group[order])
    return group, rank
