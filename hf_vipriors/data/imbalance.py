"""A long tail cut out of a balanced data set: how many images each class keeps.

References:
    [0] Class-Balanced Loss Based on Effective Number of Samples, https://arxiv.org/abs/1901.05555
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError


def long_tail_sizes(available: Sequence[int], imbalance: float) -> list[int]:
    r"""Sizes that fall exponentially in class order [0], as large as the images allow.

    .. math:: n_k = n_0 \, \rho^{-k / (K - 1)}, \quad k = 0 \dots K - 1

    with :math:`n_0` the largest number for which no class needs more images than it has; in a balanced data set that
    is the size of a class [0].

    Args:
        available: images of each class, two classes or more.
        imbalance: :math:`\rho`, the largest class / the smallest one, at least 1.

    Returns:
        Images to keep of each class, rounded, at least 1. With 1 all classes get the size of the smallest.

    Raises:
        InputError: the smallest class would be left without an image.

    Example:
        >>> long_tail_sizes([100, 100, 100], 100)
        [100, 10, 1]
        >>> long_tail_sizes([100, 100, 2], 10)
        [20, 6, 2]
    """
    last = len(available) - 1
    shares = [imbalance ** (-k / last) for k in range(len(available))]
    largest = min(count / share for count, share in zip(available, shares, strict=True))
    if round(largest * shares[-1]) < 1:
        raise InputError(
            f"--imbalance {imbalance:g} leaves the smallest class without an image (the largest has "
            f"{int(largest)}): choose {int(largest)} or less"
        )
    return [max(1, round(largest * share)) for share in shares]
