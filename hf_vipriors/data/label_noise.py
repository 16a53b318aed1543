"""Wrong labels, put in on purpose: the protocols that tell how much of them a method bears.

References:
    [0] Making Deep Neural Networks Robust to Label Noise, https://arxiv.org/abs/1609.03683
"""

from __future__ import annotations

import numpy as np

NOISE_KINDS = ("symmetric", "asymmetric")
_STREAM = 1  # beside the seed and the class: another random stream than the choice of images draws from


def noisy_labels(
    labels: np.ndarray, classes: int, *, rate: float, kind: str = "symmetric", seed: int = 0
) -> np.ndarray:
    """Replace ``round(rate * n)`` of the n labels of each class by another class.

    ``"symmetric"``: by any other class, all equally likely, never by itself. ``"asymmetric"``: by the next class in
    class order, of the last class by the first. NOTE [0] lets similar classes (truck, automobile) flip, a list made by
    hand for one data set; the cyclic order is the usual convention where nobody made such a list.

    Args:
        labels: (N,) integers in 0..classes-1. Not changed.
        classes: two or more.
        rate: share of wrong labels, 0 to 1.
        kind: ``"symmetric"`` or ``"asymmetric"``.
        seed: the same seed gives the same labels, and a smaller rate spoils a subset of a larger rate's images, in
            the same way.

    Returns:
        (N,), of the kind of ``labels``.

    Raises:
        ValueError: an unknown kind, a rate outside 0..1, fewer than two classes.

    Example:
        >>> noisy_labels(np.array([0, 0, 1, 1, 2, 2]), 3, rate=0.5, kind="asymmetric")
        array([0, 1, 1, 2, 2, 0])
    """
    if kind not in NOISE_KINDS or not 0 <= rate <= 1 or classes < 2:
        raise ValueError(f"no label noise of kind {kind!r} at rate {rate} among {classes} classes")
    noisy = labels.copy()
    for label in range(classes):
        rows = np.flatnonzero(labels == label)
        random = np.random.default_rng([seed, label, _STREAM])
        # Drawn for all rows whatever the rate is, so that a larger rate only adds to a smaller one.
        order = random.permutation(rows)
        steps = random.integers(1, classes, len(rows)) if kind == "symmetric" else np.ones(len(rows), dtype=np.int64)
        wrong = round(rate * len(rows))
        noisy[order[:wrong]] = (label + steps[:wrong]) % classes
    return noisy
