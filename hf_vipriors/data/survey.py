"""One look at every image of a data set: size, colour, what cannot be read, what occurs twice."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import ExifTags, Image, ImageOps

from .decoded_cache import Form
from .duplicates import Fingerprint, fingerprint
from .image_decoding import open_image, read_pixels
from .image_records import Records, Unreadable, map_rows

# A JPEG is decoded at the smallest fraction (1/2, 1/4, 1/8) that leaves this many pixels a side: a photograph of 12
# megapixels in a quarter of the time. Two files of equal pixels are equal at a fraction too.
_DRAFT_SIDE = 128
_GRAY_SPREAD = 8  # levels between red, green and blue that JPEG may put into a gray image


@dataclass(frozen=True)
class ImageSurvey:
    """The readable images of all splits, one after the other, and what one look at each told.

    Attributes:
        names: of the splits, in the order looked at.
        split: (N,) position in ``names``.
        row: (N,) row in its split.
        labels: (N,) int64, -1 where there is none.
        sizes: (N, 2) width and height, upright.
        gray: (N,) bool; a colour file without colours is gray.
        prints: N fingerprints, for :func:`hf_vipriors.data.duplicates.find_duplicates`.
        unreadable: by split, a line for each image that cannot be read.
        records: by split, to name an image.
    """

    names: list[str]
    split: np.ndarray
    row: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    gray: np.ndarray
    prints: list[Fingerprint]
    unreadable: dict[str, list[str]]
    records: dict[str, Records]

    def __len__(self) -> int:
        return len(self.split)

    def place(self, i: int) -> str:
        """Name image ``i``: its path, or split and row."""
        return self.records[self.names[self.split[i]]].place(int(self.row[i]))


@dataclass(frozen=True)
class _Look:
    size: tuple[int, int]
    gray: bool
    print: Fingerprint


def _dumped(look: _Look) -> bytes:
    bits = np.packbits(look.print.phash).tobytes()
    return _FIELDS.pack(*look.size, look.gray, look.print.digest, bits, look.print.thumbnail.tobytes())


def _loaded(row: np.ndarray) -> _Look:
    width, height, gray, digest, bits, thumbnail = _FIELDS.unpack(row)
    phash = np.unpackbits(np.frombuffer(bits, dtype=np.uint8)).astype(bool)
    small = np.frombuffer(thumbnail, dtype=np.uint8).reshape(8, 8, 3)
    return _Look((width, height), gray, Fingerprint(digest, phash, small))


_FIELDS = struct.Struct("<II?16s8s192s")


def _read(record: Mapping[str, Any], full_scale: float | None) -> tuple[tuple[int, int], Image.Image]:
    """(upright size, pixels), a large JPEG at a fraction of its size; raises whatever Pillow raises."""
    with open_image(record) as image:
        full = image.size
        if image.format == "JPEG" and image.mode in ("L", "RGB"):
            image.draft(None, (_DRAFT_SIDE, _DRAFT_SIDE))
            turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)  # there may be nonsense
            return (full[::-1] if turned else full), ImageOps.exif_transpose(image)
    pixels = read_pixels(record, full_scale=full_scale)
    return pixels.size, pixels


def _look(record: Mapping[str, Any], full_scale: float | None) -> _Look:
    size, pixels = _read(record, full_scale)
    taken = fingerprint(pixels)
    gray = pixels.mode == "L" or int(np.ptp(taken.thumbnail, axis=2).max()) <= _GRAY_SPREAD
    return _Look(size, gray, taken)


def survey(splits: Mapping[str, Dataset], full_scale: float | None = None) -> ImageSurvey:
    """Look at every image once; unreadable ones are noted, not raised.

    Args:
        splits: name -> Dataset with an undecoded ``image`` column and perhaps ``label``, as in
            :class:`hf_vipriors.data.ImageSplits`.
        full_scale: of wide gray images, see :func:`hf_vipriors.data.decode`.

    Raises:
        InputError: a split without images, or wide gray images that need a full scale.

    Example:
        >>> from hf_vipriors.data import load_splits
        >>> train = load_splits("fashion-vipriors").splits["train"].select(range(20))
        >>> found = survey({"train": train})
        >>> len(found), found.sizes[0].tolist(), bool(found.gray.all()), found.unreadable
        (20, [28, 28], True, {})
    """
    names = list(splits)
    records = {name: Records(dataset, name) for name, dataset in splits.items()}
    where: list[tuple[int, int]] = []
    looks: list[_Look] = []
    unreadable: dict[str, list[str]] = {}
    look_at, form = partial(_look, full_scale=full_scale), Form(f"look {full_scale}", _FIELDS.size, _dumped, _loaded)
    for position, name in enumerate(names):
        listed = records[name]
        for row, look in map_rows(listed, range(len(listed)), look_at, f"looking at {name}", form):
            if isinstance(look, Unreadable):
                unreadable.setdefault(name, []).append(f"{listed.place(row)}: {look.reason}")
            else:
                where.append((position, row))
                looks.append(look)
    split, row = np.array(where, dtype=np.int64).reshape(-1, 2).T
    labels = np.array([records[names[s]].labels[r] for s, r in where], dtype=np.int64)
    return ImageSurvey(
        names=names,
        split=split,
        row=row,
        labels=labels,
        sizes=np.array([look.size for look in looks], dtype=np.int64).reshape(-1, 2),
        gray=np.array([look.gray for look in looks], dtype=bool),
        prints=[look.print for look in looks],
        unreadable=unreadable,
        records=records,
    )
