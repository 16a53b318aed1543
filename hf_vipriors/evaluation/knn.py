"""Weighted nearest neighbours: how good features are, without training anything."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def weighted_knn(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    *,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
    chunk: int = 4096,
) -> Tensor:
    r"""Classify each query by the vote of its ``k`` most similar bank entries [0].

    .. math:: score_c(q) = \sum_{i \in kNN(q),\, y_i = c} \exp(\cos(q, b_i) / T)

    Args:
        bank: features with known labels, (N, D). Normalised here, as are the queries; computed in float32.
        bank_labels: their classes, (N,), integers in 0..num_classes-1.
        queries: features to classify, (M, D).
        num_classes: number of classes C.
        k: neighbours that vote; 20 suits small banks (200 is usual for ImageNet). A bank below k entries votes whole.
        temperature: T of the vote, 0.07 as in [0]. Below 1/80 all scores are scaled down by one common factor, so
            that the exponential stays within float32.
        chunk: queries compared at a time; memory is chunk x N floats.

    Returns:
        Scores (M, C), float32, larger is better; not probabilities.

    Raises:
        ValueError: wrong shapes, empty input, values that are not finite, a label out of range, k or chunk or
            num_classes below 1, a temperature that is not above 0.

    Example:
        >>> bank = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> weighted_knn(bank, torch.tensor([0, 1]), torch.tensor([[2.0, 0.5]]), num_classes=2, k=1).argmax(dim=1)
        tensor([0])

    [0] Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, arXiv 1805.01978
    """
    _check_features(bank, queries)
    if bank_labels.shape != (len(bank),) or bank_labels.is_floating_point() or bank_labels.dtype == torch.bool:
        raise ValueError(f"expected {len(bank)} integer labels, got {tuple(bank_labels.shape)} {bank_labels.dtype}")
    if num_classes < 1 or k < 1 or chunk < 1:
        raise ValueError(f"num_classes, k and chunk must be at least 1, got {num_classes}, {k} and {chunk}")
    if bank_labels.min() < 0 or bank_labels.max() >= num_classes:
        raise ValueError(f"bank labels must lie in 0..{num_classes - 1}, found {_range_of(bank_labels)}")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be above 0, got {temperature}")

    cosines, indices = _top_cosines(bank, queries, min(k, len(bank)), chunk)
    # exp(cos/T) leaves float32 beyond exp(88). One factor for all votes keeps every ranking and every ratio.
    votes = torch.exp(cosines / temperature - max(0.0, 1 / temperature - 80))
    scores = votes.new_zeros(len(queries), num_classes)
    return scores.scatter_add_(1, bank_labels.long().to(indices.device)[indices], votes)


def nearest_neighbours(bank: Tensor, queries: Tensor, k: int, *, chunk: int = 4096) -> tuple[Tensor, Tensor]:
    """The ``k`` bank entries most similar to each query, best first.

    Args:
        bank: (N, D); queries: (M, D). A query that is itself in the bank is its own first neighbour: drop it yourself.
        k: 1..N.
        chunk: queries compared at a time.

    Returns:
        Indices into the bank (M, k), int64, and cosines (M, k), float32.

    Raises:
        ValueError: wrong shapes, empty input, values that are not finite, k outside 1..N, chunk below 1.

    Example:
        >>> nearest_neighbours(torch.eye(3), torch.tensor([[0.1, 1.0, 0.2]]), 2)[0]
        tensor([[1, 2]])
    """
    _check_features(bank, queries)
    if not 1 <= k <= len(bank) or chunk < 1:
        raise ValueError(f"k must lie in 1..{len(bank)} (the bank) and chunk be at least 1, got {k} and {chunk}")
    cosines, indices = _top_cosines(bank, queries, k, chunk)
    return indices, cosines


def _top_cosines(bank: Tensor, queries: Tensor, k: int, chunk: int) -> tuple[Tensor, Tensor]:
    # Frozen features: no graph. float32: half precision would merge neighbours that differ in the fourth digit.
    with torch.no_grad(), torch.autocast(bank.device.type, enabled=False):
        keys = F.normalize(bank.detach().float(), dim=1).t()
        found = [
            (F.normalize(part.detach().float(), dim=1).to(keys.device) @ keys).topk(k, dim=1)
            for part in queries.split(chunk)
        ]
        return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])


def _check_features(bank: Tensor, queries: Tensor) -> None:
    if bank.dim() != 2 or queries.dim() != 2 or bank.shape[1] != queries.shape[1]:
        raise ValueError(f"expected (N, D) and (M, D) features, got {tuple(bank.shape)} and {tuple(queries.shape)}")
    if bank.numel() == 0 or queries.numel() == 0:
        raise ValueError(f"empty features: {tuple(bank.shape)} and {tuple(queries.shape)}")
    if not (torch.isfinite(bank).all() and torch.isfinite(queries).all()):
        raise ValueError("features hold values that are not finite: the network that made them has diverged")


def _range_of(labels: Tensor) -> str:
    return f"{int(labels.min())}..{int(labels.max())}"
