"""The same image in two splits: a cheap look before each training; ``--advise`` looks for near copies too."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from datasets import Dataset

from .decoded_cache import Form
from .image_decoding import encoded, is_wide, open_image, read_pixels
from .image_records import Records, Unreadable, map_rows

_DIGEST: Form[bytes] = Form("digest", 16, bytes, np.ndarray.tobytes)
_SMALL = 256 * 256  # pixels; larger images are compared by their files, which is read 20 times as fast as decoded

_known: WeakKeyDictionary[Dataset, dict[bytes, list[int]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Copies:
    """Images of ``second`` that ``first`` holds too.

    Attributes:
        first, second: names of the two splits.
        count: images of ``second``.
        pairs: the first few, as (place in ``first``, place in ``second``).
    """

    first: str
    second: str
    count: int
    pairs: list[tuple[str, str]]


def copies_between(first: Mapping[str, Dataset], second: Mapping[str, Dataset], *, named: int = 3) -> list[Copies]:
    """Find images of some splits in others: of equal pixels, or where they are large, of equal files.

    Args:
        first: name -> split with an undecoded ``image`` column, such as what is trained on.
        second: those that must hold other images, such as validation and test.
        named: pairs of places to tell.

    Example:
        >>> from hf_vipriors.data import load_splits
        >>> splits = load_splits("fashion-vipriors").splits
        >>> train, test = splits["train"].select(range(20)), splits["test"].select(range(20))
        >>> copies_between({"train": train}, {"test": test})
        []
        >>> copies_between({"train": train}, {"test": splits["train"].select([3, 30])})[0].count
        1
    """
    seen = {name: digests(dataset, name) for name, dataset in first.items()}
    found = []
    for name, dataset in second.items():
        rows = digests(dataset, name)
        for earlier, known in seen.items():
            shared = [(known[digest][0], row) for digest, own in rows.items() if digest in known for row in own]
            if shared:
                shared.sort(key=lambda pair: pair[1])
                places, others = Records(first[earlier], earlier), Records(dataset, name)
                pairs = [(places.place(a), others.place(b)) for a, b in shared[:named]]
                found.append(Copies(earlier, name, len(shared), pairs))
    return found


def digests(dataset: Dataset, name: str) -> dict[bytes, list[int]]:
    """Digest (16 bytes) of each image -> the rows that have it, rising; unreadable images have none.

    Args:
        dataset: with an undecoded ``image`` column; it is read once in a process.
        name: what the progress bar calls it.
    """
    if dataset not in _known:
        rows: dict[bytes, list[int]] = {}
        records = Records(dataset, name)
        for row, digest in map_rows(records, range(len(records)), _digest, f"copies in {name}", _DIGEST):
            if not isinstance(digest, Unreadable):
                rows.setdefault(digest, []).append(row)
        _known[dataset] = rows
    return _known[dataset]


def _digest(record: Mapping[str, Any]) -> bytes:
    """Of the pixels of a small image, of the file of a large or wide one: images of equal pixels are of equal size."""
    with open_image(record) as image:
        by_pixels = image.width * image.height <= _SMALL and not is_wide(image.mode)
    if not by_pixels:
        return hashlib.blake2b(encoded(record), digest_size=16).digest()
    pixels = read_pixels(record)
    digest = hashlib.blake2b(f"{pixels.mode} {pixels.size}".encode(), digest_size=16)
    digest.update(pixels.tobytes())
    return digest.digest()
