"""How much of a model's accuracy is left on corrupted images.

References:
    [0] Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
        https://arxiv.org/abs/1903.12261
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from ..data import ImageStore, StreamedStore
from ..errors import check_choice
from ..models import VipriorsForImageClassification
from ..views.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from .features import probabilities

_BLOCK = 32  # images corrupted together; divides the usual batches, so that no image is read twice


class CorruptedStore(Dataset):
    """The images of a store, corrupted as they are handed out; labels and indices stay.

    Every image is corrupted in the same way however the store is read: images are corrupted in blocks of neighbours,
    each block by a generator seeded with its number.

    Args:
        store: an :class:`~hf_vipriors.data.ImageStore` or :class:`~hf_vipriors.data.StreamedStore`.
        name: a key of :data:`~hf_vipriors.views.corruptions.CORRUPTIONS`.
        severity: 1 to 5.
        seed: of all random numbers. Default 0.

    Raises:
        InputError: an unknown corruption.
        ValueError: a severity outside 1..5, when images are read.

    Example:
        >>> from hf_vipriors.data import ImageStore
        >>> store = ImageStore(torch.zeros(40, 1, 16, 16, dtype=torch.uint8), torch.arange(40))
        >>> bright = CorruptedStore(store, "brightness", severity=1)
        >>> batch = bright.__getitems__([2, 39])
        >>> batch["pixel_values"].amax(), batch["labels"]
        (tensor(26, dtype=torch.uint8), tensor([ 2, 39]))
    """

    def __init__(self, store: ImageStore | StreamedStore, name: str, severity: int, seed: int = 0) -> None:
        check_choice(name, CORRUPTIONS, "corruptions")
        self.store, self.name, self.severity, self.seed = store, name, severity, seed
        self.labels, self.shape = store.labels, store.shape

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {key: values[0] for key, values in self.__getitems__([range(len(self))[i]]).items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        chosen = np.asarray(indices)
        numbers = np.unique(chosen // _BLOCK)
        blocks = [self._block(int(number)) for number in numbers]
        joined = {key: torch.cat([block[key] for block in blocks]) for key in blocks[0]}
        place = np.searchsorted(numbers, chosen // _BLOCK) * _BLOCK + chosen % _BLOCK
        return {key: values[torch.from_numpy(place)] for key, values in joined.items()}

    def _block(self, number: int) -> dict[str, torch.Tensor]:
        start = number * _BLOCK
        batch = self.store.__getitems__(list(range(start, min(start + _BLOCK, len(self)))))
        # A hash of the name: a corruption added to the list leaves the others as they were.
        stream = [self.seed, number, zlib.crc32(self.name.encode()), self.severity]
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(stream).generate_state(1)[0]))
        return {**batch, "pixel_values": corrupt(batch["pixel_values"], self.name, self.severity, generator)}


def robustness(
    model: VipriorsForImageClassification,
    store: ImageStore | StreamedStore,
    *,
    order: Sequence[int] | None = None,
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    seed: int = 0,
    ten_crop: bool = False,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> dict[str, Any]:
    """Top-1 on the images as they are and under every corruption at five severities.

    Args:
        model: a classifier.
        store: labelled evaluation images.
        order: which output of the model answers for each label; None where both count alike.
        corruptions: names; all by default. The mean over them is comparable only between equal lists.
        seed: of the corruptions; two models compared must share it.
        ten_crop: average ten crops (the store's images must be larger than a crop).
        batch_size, device: of the passes.
        progress: show a bar.

    Returns:
        Fractions: ``clean``; ``top1``, the mean over all corruptions and severities; ``per_corruption``, name -> one
        value a severity; and ``count``, the number of images.

    Raises:
        InputError: an unknown corruption.
    """

    def top1(images: Dataset) -> float:
        found = probabilities(model, images, ten_crop=ten_crop, batch_size=batch_size, device=device)
        values = found.values if order is None else found.values[:, list(order)]
        return float((values.argmax(dim=1) == found.labels).double().mean())

    clean = top1(store)
    cells = [(name, severity) for name in corruptions for severity in SEVERITIES]
    per_corruption: dict[str, list[float]] = {name: [] for name in corruptions}
    # A bar only on a terminal, and for work that takes more than two seconds.
    for name, severity in tqdm(cells, desc="corruptions", delay=2, leave=False, disable=None if progress else True):
        per_corruption[name].append(top1(CorruptedStore(store, name, severity, seed)))
    mean = float(np.mean(list(per_corruption.values())))
    return {"clean": clean, "top1": mean, "per_corruption": per_corruption, "count": len(store)}
