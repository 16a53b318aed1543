"""How sure a measured accuracy is: intervals and a paired test, all in fractions (0 to 1), none in percent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

Interval = tuple[float, float]


def wilson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    r"""Wilson's score interval of a proportion, here: of an accuracy on ``n`` test images.

    .. math:: \frac{p + z^2/2n \pm z \sqrt{p(1-p)/n + z^2/4n^2}}{1 + z^2/n}

    It stays within 0 and 1 and keeps its level near 0 % and 100 %, where the textbook ``p ± z s`` does not.

    Args:
        successes: images classified correctly, 0 to ``n``.
        n: images tested, at least 1.
        level: confidence level, within 0 and 1.

    Returns:
        (low, high).

    Raises:
        ValueError: ``n`` below 1, ``successes`` outside 0..n, or a level outside (0, 1).

    Example:
        >>> low, high = wilson_interval(1652, 2000)
        >>> f"{low:.3f} {high:.3f}"
        '0.809 0.842'
    """
    _check_level(level)
    if n < 1:
        raise ValueError(f"an interval needs at least one test image, got n = {n}")
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes do not fit into {n} trials")
    low, high = stats.binomtest(int(successes), int(n)).proportion_ci(level, method="wilson")
    return float(low), float(high)


def mean_interval(values: Sequence[float], level: float = 0.95, *, resolution: float = 0.0) -> Interval | None:
    """Student's t interval of the mean over seeds: how far a re-training would move it.

    Args:
        values: one value a seed.
        level: confidence level, within 0 and 1.
        resolution: the step in which values are measured, such as one test image of all. A standard deviation below
            it cannot be seen, and counts as that large: few seeds may be equal by luck.

    Returns:
        (low, high), or None for a single value, which says nothing about its spread.

    Raises:
        ValueError: no values, a value that is not finite, or a level outside (0, 1).

    Example:
        >>> low, high = mean_interval([0.80, 0.82, 0.84])
        >>> f"{low:.3f} {high:.3f}"
        '0.770 0.870'
    """
    _check_level(level)
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"expected one value a seed, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"a value is not finite: {list(values)}")
    if array.size == 1:
        return None
    standard_error = max(array.std(ddof=1), resolution) / math.sqrt(array.size)
    half = stats.t.ppf((1 + level) / 2, array.size - 1) * standard_error
    return float(array.mean() - half), float(array.mean() + half)


def difference_interval(successes_a: int, n_a: int, successes_b: int, n_b: int, level: float = 0.95) -> Interval:
    """Newcombe's interval of the difference ``a - b`` of two accuracies measured apart (his method 10).

    It combines the two Wilson intervals. For two models on the *same* images it is usually wider than need be, since
    both stumble over the same hard ones: with the predictions per image use :func:`paired_difference_interval`.

    Raises:
        ValueError: as :func:`wilson_interval`.

    Example:
        >>> low, high = difference_interval(56, 70, 48, 80)
        >>> f"{low:.4f} {high:.4f}"
        '0.0524 0.3339'
    """
    low_a, high_a = wilson_interval(successes_a, n_a, level)
    low_b, high_b = wilson_interval(successes_b, n_b, level)
    a, b = successes_a / n_a, successes_b / n_b
    return a - b - math.hypot(a - low_a, high_b - b), a - b + math.hypot(high_a - a, b - low_b)


def paired_difference_interval(correct_a: Sequence[bool], correct_b: Sequence[bool], level: float = 0.95) -> Interval:
    r"""Interval of the difference ``a - b`` of two accuracies on the same images (Bonett and Price, 2012).

    Only images where the two disagree count: with ``b10`` right in a alone, ``b01`` right in b alone,
    :math:`p = (b + 1) / (n + 2)` and :math:`p_{10} - p_{01} \pm z \sqrt{(p_{10} + p_{01} - (p_{10}-p_{01})^2)/(n+2)}`.

    Raises:
        ValueError: no images, two lengths, or a level outside (0, 1).
    """
    _check_level(level)
    z = float(stats.norm.ppf((1 + level) / 2))
    only_a, only_b, n = _disagreements(correct_a, correct_b)
    p_a, p_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = z * math.sqrt((p_a + p_b - (p_a - p_b) ** 2) / (n + 2))
    return max(-1.0, p_a - p_b - half), min(1.0, p_a - p_b + half)


def mcnemar(correct_a: Sequence[bool], correct_b: Sequence[bool]) -> float:
    """Exact p-value of McNemar's test: are two classifiers equally good on the same images?

    Under that hypothesis each image on which exactly one of them is right is a fair coin.

    Args:
        correct_a, correct_b: whether each image was classified correctly, same images in the same order.

    Returns:
        Two-sided p-value; 1.0 when they never disagree.

    Raises:
        ValueError: no images, or two lengths.

    Example:
        >>> mcnemar([True] * 6 + [False], [False] * 6 + [True])
        0.125
    """
    only_a, only_b, _ = _disagreements(correct_a, correct_b)
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)


def _disagreements(correct_a: Sequence[bool], correct_b: Sequence[bool]) -> tuple[int, int, int]:
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.ndim != 1 or a.shape != b.shape or a.size == 0:
        raise ValueError(f"expected one answer an image from both models, got shapes {a.shape} and {b.shape}")
    if a.dtype != bool or b.dtype != bool:
        # Class numbers given by mistake would otherwise all count as "right" but class 0.
        raise ValueError(f"expected booleans (right or wrong), got {a.dtype} and {b.dtype}")
    return int((a & ~b).sum()), int((b & ~a).sum()), int(a.size)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies within 0 and 1, got {level}")
