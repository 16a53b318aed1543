"""What makes a train split harder than its choice of images: a long tail, a share of the images, wrong labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import check_choice, check_range
from .imbalance import long_tail_sizes
from .label_noise import NOISE_KINDS, noisy_labels


@dataclass(frozen=True)
class TrainProtocol:
    """What is done to the train split alone, after its images were chosen, in this order; see :func:`apply_protocol`.

    Attributes:
        imbalance: largest class / smallest class, classes in between falling exponentially. Default 1: as they are.
        train_fraction: share of the images of each class that is kept. Default 1: all.
        label_noise: share of the labels of each class that becomes wrong. Default 0: none.
        noise_kind: ``"symmetric"`` (default) or ``"asymmetric"``, see :func:`.label_noise.noisy_labels`.

    Raises:
        InputError: a value out of range.

    Example:
        >>> rows, notes = TrainProtocol(train_fraction=0.5).thin_out([np.arange(4), np.arange(4, 8)], ["cat", "dog"])
        >>> rows, notes
        ([array([0, 1]), array([4, 5])], ['train fraction 0.5: 4 of 8 train images, each class alike'])
    """

    imbalance: float = 1.0
    train_fraction: float = 1.0
    label_noise: float = 0.0
    noise_kind: str = "symmetric"

    def __post_init__(self) -> None:
        check_range(self.imbalance, "imbalance", 1)
        check_range(self.train_fraction, "train_fraction", 0, 1, open_low=True)
        check_range(self.label_noise, "label_noise", 0, 0.99)
        check_choice(self.noise_kind, NOISE_KINDS, "noise_kind")

    @property
    def active(self) -> bool:
        """Whether anything is to be done."""
        return self != TrainProtocol(noise_kind=self.noise_kind)

    def thin_out(self, rows: list[np.ndarray], class_names: list[str]) -> tuple[list[np.ndarray], list[str]]:
        """Keep the first rows of each class (they are shuffled), and word how."""
        notes = []
        if self.imbalance > 1:
            sizes = long_tail_sizes([len(members) for members in rows], self.imbalance)
            rows = [members[:size] for members, size in zip(rows, sizes, strict=True)]
            notes.append(
                f"imbalance {self.imbalance:g}: from {sizes[0]} train images of {class_names[0]!r} down to "
                f"{sizes[-1]} of {class_names[-1]!r}"
            )
        if self.train_fraction < 1:
            before = sum(map(len, rows))
            rows = [members[: max(1, round(self.train_fraction * len(members)))] for members in rows]
            kept = sum(map(len, rows))
            notes.append(f"train fraction {self.train_fraction:g}: {kept} of {before} train images, each class alike")
        return rows, notes

    def spoil(self, labels: np.ndarray, class_names: list[str], seed: int) -> tuple[np.ndarray, list[str]]:
        """Labels with the wrong ones in them, and word how."""
        if not self.label_noise:
            return labels, []
        noisy = noisy_labels(labels, len(class_names), rate=self.label_noise, kind=self.noise_kind, seed=seed)
        wrong = int((noisy != labels).sum())
        return noisy, [
            f"label noise {self.label_noise:g}, {self.noise_kind}: {wrong} of {len(labels)} train labels made wrong "
            f"(seed {seed}); validation and test are as they were"
        ]
