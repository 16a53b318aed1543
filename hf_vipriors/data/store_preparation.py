"""Look at every image once before training: what can be read, whether all are gray, what fits into memory."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import psutil
from torch import Tensor

from ..errors import InputError
from .decoded_cache import Form
from .image_decoding import DoesNotFit, Header, ResizeCrop, read_header, read_pixels, read_square
from .image_records import BadImages, Records, Unreadable, map_rows

HEADERS: Form[Header] = Form(
    "header", 5, lambda found: struct.pack("<I?", *astuple(found)), lambda row: Header(*struct.unpack("<I?", row))
)


def squares(
    records: Records,
    geometry: ResizeCrop,
    rows: range | np.ndarray | None = None,
    channels: int = 3,
    *,
    reduced: bool = False,
    any_depth: bool = False,
) -> Iterator[tuple[int, Any]]:
    """Yield (row, (channels, crop, crop) uint8) in order, or (row, :class:`Unreadable`); see :func:`read_square`.

    With ``any_depth`` gray values that need a full scale make an image unreadable; else they are refused at the end.
    """
    rows = range(len(records)) if rows is None else rows

    def work(record: Any) -> np.ndarray:
        try:
            return read_square(record, geometry, channels, reduced=reduced)
        except DoesNotFit as error:
            if any_depth:
                raise ValueError(error.for_new_images) from None
            raise

    return map_rows(records, rows, work, f"decoding {records.name}", _pixels(geometry, channels, reduced))


def _pixels(geometry: ResizeCrop, channels: int, reduced: bool) -> Form[np.ndarray]:
    shape = (channels, geometry.crop, geometry.crop)
    return Form(f"{geometry} {reduced}", math.prod(shape), np.ndarray.tobytes, lambda row: row.reshape(shape))


@dataclass(frozen=True)
class Prepared:
    """What a store holds.

    Attributes:
        rows: that can be read, rising.
        channels: 1 where all of them are gray, else 3.
        budget: bytes that the images might take.
        skipped: how many were left out.
    """

    rows: range | np.ndarray
    channels: int
    budget: float
    skipped: int


def prepare(
    records: Records,
    geometry: ResizeCrop,
    *,
    on_bad_image: str,
    memory_share: float,
    reduced: bool,
    allocate: Callable[[int], Tensor],
) -> tuple[Prepared, Tensor | None]:
    """Read all headers, then decode all images into memory, or where they would not fit, to see that they can be.

    Args:
        records: the images.
        geometry: the size to keep them in.
        on_bad_image: ``"error"`` or ``"skip"``.
        memory_share: of the available memory, for this store.
        reduced: see :func:`hf_vipriors.data.image_decoding.read_square`.
        allocate: gives (count,) uint8; called once at most.

    Returns:
        What was found, and what ``allocate`` gave, filled from the front; None where the images would not fit.

    Raises:
        InputError: an image that cannot be read, or no image that can be.
    """
    bad = BadImages(records, on_bad_image)
    rows, channels = _readable_headers(records, bad)
    needed = len(rows) * channels * geometry.crop**2
    budget = memory_share * psutil.virtual_memory().available
    memory = None
    if needed <= budget:
        memory = allocate(needed)
        images = memory.numpy().reshape(len(rows), channels, geometry.crop, geometry.crop)
        rows = _decode(records, rows, geometry, images, reduced, bad)
    else:
        rows = _verified(records, rows, geometry.full_scale, bad)
    if not len(rows):
        raise InputError(f"none of the {len(records)} {records.name} images can be read: check the data set")
    return Prepared(rows, channels, budget, bad.count), memory


def _chosen(rows: range | np.ndarray, keep: np.ndarray) -> range | np.ndarray:
    """Row numbers take memory only where some are missing."""
    return rows if keep.all() else np.asarray(rows)[keep]


def _readable_headers(records: Records, bad: BadImages) -> tuple[range | np.ndarray, int]:
    """(rows, channels)."""
    keep, gray = np.ones(len(records), dtype=bool), True
    for row, header in map_rows(records, range(len(records)), read_header, f"checking {records.name}", HEADERS):
        if isinstance(header, Header):
            gray = gray and header.gray
        else:
            bad.add(row, header)
            keep[row] = False
    return _chosen(range(len(records)), keep), 1 if gray else 3


def _decode(
    records: Records,
    rows: range | np.ndarray,
    geometry: ResizeCrop,
    images: np.ndarray,
    reduced: bool,
    bad: BadImages,
) -> range | np.ndarray:
    keep, filled = np.ones(len(rows), dtype=bool), 0
    found = squares(records, geometry, rows, images.shape[1], reduced=reduced)
    for position, (row, pixels) in enumerate(found):
        if isinstance(pixels, Unreadable):
            bad.add(row, pixels)
            keep[position] = False
        else:
            images[filled] = pixels
            filled += 1
    return _chosen(rows, keep)


def _verified(
    records: Records, rows: range | np.ndarray, full_scale: float | None, bad: BadImages
) -> range | np.ndarray:
    """The rows whose pixels can be decoded. An error now is better than one in the middle of a run."""
    keep = np.ones(len(rows), dtype=bool)

    def decodes(record: Any) -> bool:
        read_pixels(record, 1, full_scale)  # of a JPEG an eighth, for which all of the file is read
        return True

    form: Form[bool] = Form(f"can be decoded {full_scale}", 1, lambda _: b"\1", lambda _: True)
    for position, (row, outcome) in enumerate(map_rows(records, rows, decodes, f"verifying {records.name}", form)):
        if isinstance(outcome, Unreadable):
            bad.add(row, outcome)
            keep[position] = False
    return _chosen(rows, keep)
