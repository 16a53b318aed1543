"""Batches of labelled images with images without labels beside them, as semi-supervised training wants them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Dataset, Sampler

from .image_store import Batch, ImageStore, StreamedStore


class PairedStore(Dataset):
    """A store whose items are labelled images, each with ``companions`` unlabelled ones from the same store.

    Its length is the number of labelled images, so an epoch is one pass over the labels. What goes together is
    drawn by :class:`PairedSampler`; an item is addressed by a tuple (labelled, companion, companion, ...).

    Args:
        store: labelled and unlabelled images, the latter with label -1.
        companions: unlabelled images beside each labelled one. 0: they wait until the training has ended; an item is
            then a plain number.

    Raises:
        ValueError: no labelled or no unlabelled image, or fewer companions than none.

    Example:
        >>> store = ImageStore(torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, -1, -1, -1, -1]))
        >>> paired = PairedStore(store, companions=2)
        >>> len(paired), paired.__getitems__([(0, 3, 4), (1, 2, 5)])["labels"].tolist()
        (2, [0, 1, -1, -1, -1, -1])
    """

    def __init__(self, store: ImageStore | StreamedStore, companions: int) -> None:
        if companions < 0:
            raise ValueError(f"companions must be at least 0, got {companions}")
        self.store, self.companions = store, companions
        self.labelled = (store.labels >= 0).nonzero().squeeze(1)
        self.unlabelled = (store.labels < 0).nonzero().squeeze(1)
        if not len(self.labelled) or not len(self.unlabelled):
            raise ValueError(f"{len(self.labelled)} labelled and {len(self.unlabelled)} unlabelled images: need both")

    @property
    def labels(self) -> torch.Tensor:
        """Of the labelled images."""
        return self.store.labels[self.labelled]

    def __len__(self) -> int:
        return len(self.labelled)

    def checksum(self) -> bytes:
        """Of the store of all its images."""
        return self.store.checksum()

    def __getitems__(self, pairs: Sequence[tuple[int, ...]] | Sequence[int]) -> Batch:
        """Labelled images first, then all their companions: B (1 + companions) rows."""
        rows = torch.tensor(pairs, dtype=torch.int64)
        rows = rows.T.flatten() if self.companions else self.labelled[rows]
        return self.store.__getitems__(rows.tolist())


class PairedSampler(Sampler):
    """The order of a :class:`PairedStore`: a pure function of (seed, epoch), so that a resumed run goes on with it.

    Labelled images are shuffled every epoch. Unlabelled ones are dealt from one shuffled deck after another, across
    epochs: none comes a second time before all have come once.
    """

    def __init__(self, paired: PairedStore, seed: int) -> None:
        self.paired, self.seed, self.epoch = paired, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.paired)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        labelled = self.paired.labelled[self._shuffled(len(self.paired), "labelled", self.epoch)]
        needed = len(labelled) * self.paired.companions
        companions = self._dealt(self.epoch * needed, needed).view(len(labelled), self.paired.companions)
        for one, others in zip(labelled.tolist(), companions.tolist(), strict=True):
            yield (one, *others)

    def _dealt(self, first: int, count: int) -> torch.Tensor:
        """Cards ``first .. first + count`` of the decks laid end to end."""
        pool = self.paired.unlabelled
        decks = range(first // len(pool), (first + count - 1) // len(pool) + 1)
        cards = torch.cat([pool[self._shuffled(len(pool), "unlabelled", deck)] for deck in decks])
        start = first - decks.start * len(pool)
        return cards[start : start + count]

    def _shuffled(self, count: int, what: str, number: int) -> torch.Tensor:
        seed = (self.seed * 0x9E3779B97F4A7C15 + 2 * number + (what == "unlabelled")) % 2**63
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
