"""A second score beside the first where test images are known to be in the train split too."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from .classification import ClassificationScore, score
from .features import Outputs

logger = logging.getLogger(__name__)
WITHOUT = "test_without_duplicates"
"""The second score in ``metrics.json``, and as ``score:`` of a table's row."""


def scores(outputs: Outputs, class_names: Sequence[str], listed: np.ndarray | None) -> list[ClassificationScore]:
    """The score on all images, and where some of them are listed a second one on the others.

    Args:
        outputs: probabilities ``(N, K)`` and labels.
        class_names: K names.
        listed: ``(N,)`` bool of :func:`hf_vipriors.data.cifair.listed_duplicates`, or None.

    Example:
        >>> import torch
        >>> outputs = Outputs(torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([0, 1, 1]))
        >>> listed = np.array([True, False, False])
        >>> [(each.count, round(each.top1, 2)) for each in scores(outputs, ["cat", "dog"], listed)]
        [(3, 0.67), (2, 0.5)]
    """
    found = [score(outputs.values, outputs.labels, class_names)]
    if listed is None or listed.all():
        return found
    if len(listed) != len(outputs.labels):  # never worth a finished training
        logger.warning("images changed while they were used: no score without ciFAIR's duplicates")
        return found
    return [*found, score(outputs.values[~listed], outputs.labels[~listed], class_names)]


def without(whole: int, rest: int) -> str:
    """What the second score is of, from the counts of both.

    Example:
        >>> without(10_000, 9_692)
        "without ciFAIR's 308 duplicates"
    """
    return f"without ciFAIR's {whole - rest:,} duplicates"
