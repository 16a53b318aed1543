"""Test images of CIFAR-10 that its train split holds too, or its test split a second time: the list of ciFAIR [0].

ciFAIR has new images in their place. They do not ship here, so what is scored without the listed images is scored on
the others alone, and is no score on ciFAIR.

References:
    [0] Do We Train on Test Data? Purging CIFAR of Near-Duplicates, https://arxiv.org/abs/1902.00423
"""

from __future__ import annotations

import csv
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from .decoded_cache import Form
from .image_decoding import is_wide, open_image, read_pixels
from .image_records import Records, Unreadable, map_rows

LIST = Path(__file__).parent / "cifair10.csv"
_SIZE = (32, 32)
_DIGEST: Form[bytes] = Form("sha256 of 32 x 32 RGB", 8, bytes, np.ndarray.tobytes)
_OTHER = bytes(_DIGEST.width)  # of an image that is none of CIFAR's


def duplicate_pairs() -> list[dict[str, str]]:
    """The rows of the list; its columns are described at its top."""
    with LIST.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@functools.cache
def _listed() -> frozenset[bytes]:
    return frozenset(bytes.fromhex(pair["sha256"]) for pair in duplicate_pairs())


def listed_duplicates(dataset: Dataset, name: str) -> np.ndarray | None:
    """Which images ciFAIR lists, known by their pixels: in whatever order, subset and lossless format they come.

    Where the first image is not of CIFAR's size, no other is read.

    Args:
        dataset: with an undecoded ``image`` column.
        name: of the split, for the progress bar.

    Returns:
        ``(N,)`` bool over the images that can be read; None where none is listed.

    Example:
        >>> from hf_vipriors.data import load_splits
        >>> listed_duplicates(load_splits("fashion-vipriors").splits["test"], "test") is None
        True
    """
    records = Records(dataset, name)
    if _first_size(records) != _SIZE:
        return None
    digests = map_rows(records, range(len(records)), _digest, f"known duplicates in {name}", _DIGEST)
    found = np.array([digest in _listed() for _, digest in digests if not isinstance(digest, Unreadable)])
    return found if found.any() else None


def _first_size(records: Records) -> tuple[int, int] | None:
    for row in range(len(records)):
        try:
            with open_image(records.read([row])[0]) as image:
                return image.size
        except Exception:  # Pillow's plugins raise many types; a store that holds the others has told of it
            continue
    return None


def _digest(record: Mapping[str, Any]) -> bytes:
    with open_image(record) as image:
        if image.size != _SIZE or is_wide(image.mode):
            return _OTHER
    return hashlib.sha256(read_pixels(record).tobytes()).digest()[: _DIGEST.width]
