"""What frozen features know: scores of a weighted kNN and of a linear probe."""

from __future__ import annotations

from collections.abc import Sequence

from .classification import ClassificationScore, score
from .features import Pass
from .knn import weighted_knn
from .linear_probe import linear_probe


def knn_score(bank: Pass, target: Pass, class_names: Sequence[str], *, neighbours: int = 20) -> ClassificationScore:
    """Labelled images vote for each image of ``target``; a bank with fewer than ``neighbours`` images votes whole."""
    k = min(neighbours, len(bank.values))
    votes = weighted_knn(bank.values, bank.labels, target.values, num_classes=len(class_names), k=k)
    return score(votes / votes.sum(dim=1, keepdim=True), target.labels, class_names)


def linear_score(
    train: Pass, validation: Pass, target: Pass, class_names: Sequence[str]
) -> tuple[ClassificationScore, float]:
    """A linear classifier fitted on ``train``, its strength chosen on ``validation``; with the strength chosen."""
    probe = linear_probe(train.values, train.labels, validation.values, validation.labels)
    return score(probe.predict_proba(target.values), target.labels, class_names), probe.cost
