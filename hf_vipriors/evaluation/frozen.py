"""What frozen features know: scores of a weighted kNN and of a linear probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .classification import ClassificationScore, score
from .features import Outputs
from .knn import weighted_knn
from .linear_probe import linear_probe

_RANK_ROWS = 1000  # singular values of more rows cost a CPU seconds, and hardly move


def knn_score(
    bank: Outputs, target: Outputs, class_names: Sequence[str], *, neighbours: int = 20
) -> ClassificationScore:
    """Labelled images vote for each image of ``target``; a bank with fewer than ``neighbours`` images votes whole."""
    k = min(neighbours, len(bank.values))
    votes = weighted_knn(bank.values, bank.labels, target.values, num_classes=len(class_names), k=k)
    return score(votes / votes.sum(dim=1, keepdim=True), target.labels, class_names)


@dataclass(frozen=True)
class LinearScore:
    """What a linear classifier of frozen features scored, with its C and the class number that it predicts of each."""

    score: ClassificationScore
    cost: float
    predicted: np.ndarray


def linear_score(train: Outputs, validation: Outputs, target: Outputs, class_names: Sequence[str]) -> LinearScore:
    """A linear classifier fitted on ``train``, its C chosen on ``validation``, scored on ``target``.

    Example:
        >>> points = Outputs(torch.tensor([[-2.0], [-1.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1]))
        >>> found = linear_score(points, points, points, ["cat", "dog"])
        >>> found.score.top1, found.predicted
        (1.0, array([0, 0, 1, 1]))
    """
    probe = linear_probe(train.values, train.labels, validation.values, validation.labels)
    probabilities = probe.predict_proba(target.values).astype(np.float32)
    found = score(probabilities, target.labels, class_names)
    return LinearScore(found, probe.cost, probabilities.argmax(axis=1))


def feature_spread(values: Tensor) -> float:
    r"""Standard deviation of unit features, times :math:`\sqrt{D}`: 1 when even on the sphere, 0 when alike.

    Example:
        >>> round(feature_spread(torch.eye(8) - 1 / 8), 2), feature_spread(torch.ones(5, 8))
        (1.07, 0.0)
    """
    return F.normalize(values, dim=1).std(dim=0).mean().item() * values.shape[1] ** 0.5


def effective_rank(values: Tensor) -> float:
    r"""In how many directions features differ: the exponential of the entropy of their singular values [0].

    .. math:: \exp(-\sum_i p_i \ln p_i), \quad p_i = \sigma_i / \sum_j \sigma_j

    Args:
        values: ``(N, D)``; rows are brought to unit length first; of more than 1,000 as many are taken, evenly.

    Returns:
        1 (all rows on one line) to min(N, D).

    Reference:
        [0] RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised Representations by Their Rank,
            https://arxiv.org/abs/2210.02885

    Example:
        >>> round(effective_rank(torch.eye(8)), 4), round(effective_rank(torch.ones(5, 8)), 4)
        (8.0, 1.0)
    """
    rows = torch.linspace(0, len(values) - 1, min(len(values), _RANK_ROWS)).long()
    sigma = torch.linalg.svdvals(F.normalize(values[rows].double(), dim=1))
    shares = sigma / sigma.sum()
    return torch.special.entr(shares).sum().exp().item()
