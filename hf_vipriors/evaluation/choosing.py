"""Which images are worth a label: those a model is unsure of; with no label yet, some of every kind that there is."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional as F

CANDIDATES = 10
"""Times as many of the least certain images as are asked for are clustered; 10 to 50 in [0]."""
NEIGHBOURS = 20
"""Of which the distance tells how typical an image is; K of [1]."""


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
    points = _unit(features[order])
    # What is quite certain weighs almost nothing, but k-means wants weights above zero.
    means = KMeans(min(count, len(np.unique(points, axis=0))), n_init=1, random_state=seed)
    distance = means.fit(points, sample_weight=uncertainty[order].clip(1e-6)).transform(points)
    groups = [np.flatnonzero(means.labels_ == group) for group in np.unique(means.labels_)]
    nearest = {int(each[distance[each, means.labels_[each]].argmin()]) for each in groups}
    # Where many images are equal: the least certain of the others.
    rest = (position for position in range(len(order)) if position not in nearest)
    while len(nearest) < count:
        nearest.add(next(rest))
    return order[sorted(nearest)]


def most_typical(features: Tensor, count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    r"""Choose images to label where nothing is labelled: of each of ``count`` clusters the most typical image [1].

    Clusters are those of k-means of the normalised features; the most typical image of one is that with the largest

    .. math:: \Big( \frac{1}{k} \sum_{j \in kNN(i)} \lVert v_i - v_j \rVert \Big)^{-1}

    among the ``k = 20`` nearest images of its cluster, or all where there are fewer [1]. The images nearest to the
    centres are not as good (model_cards/RESULTS.md).

    Args:
        features: (N, D).
        count: images to choose; fewer where there are not so many that differ.
        seed: of the first centres of k-means.

    Returns:
        Row numbers, that of the largest cluster first, and how many images each stands for; ``count`` of both.

    Raises:
        ValueError: ``count`` below 1, or no features.

    Example:
        >>> import torch
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.3], [0.0, 1.0], [0.0, 1.0]])
        >>> [each.tolist() for each in most_typical(features, 2)]
        [[1, 3], [3, 2]]

    [1] Hacohen et al., Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets, arXiv 2202.02794
    """
    if count < 1 or not len(features):
        raise ValueError(f"count is {count}, {len(features)} features: need at least 1 of both")
    points, first, copies = np.unique(_unit(features), axis=0, return_index=True, return_counts=True)
    means = KMeans(min(count, len(points)), n_init=1, random_state=seed).fit(points, sample_weight=copies)
    members = [np.flatnonzero(means.labels_ == group) for group in np.unique(means.labels_)]
    rows = np.array([first[each[_typical(points[each])]] for each in members])
    sizes = np.array([copies[each].sum() for each in members])
    order = np.argsort(-sizes, kind="stable")
    return rows[order], sizes[order]


def in_groups(features: Tensor, rows: np.ndarray, sizes: np.ndarray, groups: int) -> list[tuple[np.ndarray, int]]:
    """Sort chosen images into groups that look alike, so that a person may name many at once.

    Args:
        features: (N, D) of all images.
        rows: (count,) those that were chosen, see :func:`most_typical`.
        sizes: (count,) how many images each stands for.
        groups: of the tree that Ward's criterion makes of their normalised features; fewer where not so many were
            chosen.

    Returns:
        For each group, the largest first, its rows, neighbours in the tree beside each other, and how many images
        they stand for.

    Raises:
        ValueError: ``groups`` below 1.

    Example:
        >>> import torch
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
        >>> found = in_groups(features, np.array([0, 1, 2]), np.array([30, 25, 20]), 2)
        >>> [(rows.tolist(), size) for rows, size in found]
        [([0, 2], 50), ([1], 25)]
    """
    if groups < 1:
        raise ValueError(f"groups is {groups}: need at least 1")
    if len(rows) == 1:
        return [(rows, int(sizes[0]))]
    tree = linkage(_unit(features[rows]), "ward")
    order, labels = leaves_list(tree), fcluster(tree, groups, "maxclust")
    members = [order[labels[order] == group] for group in np.unique(labels)]
    return sorted(((rows[each], int(sizes[each].sum())) for each in members), key=lambda found: -found[1])


def _unit(features: Tensor) -> np.ndarray:
    return F.normalize(features.float(), dim=1).numpy()


def _typical(points: np.ndarray) -> int:
    """The row of the point whose neighbours are the nearest."""
    if len(points) < 3:
        return 0
    nearest = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(points) - 1)).fit(points)
    return int(nearest.kneighbors()[0].mean(axis=1).argmin())
