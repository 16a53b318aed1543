"""What was decoded once waits on disk for the next command: rows of bytes, found by the image that they come from.

A row belongs to a file (its path, size and time of change) or to embedded bytes, and to a form (what was made of the
image, and by which code). A subset, another split or another run of the same images finds it again. Each command
writes a file of its own, and rows are checked when they are read: what was altered is noticed and decoded anew.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import numpy as np
import PIL
import torchvision
import xxhash
from datasets import config
from PIL import features

from ..errors import one_line
from ..files import replacing

logger = logging.getLogger(__name__)
T = TypeVar("T")

NOWHERE = "none"
LIMIT = 20 * 2**30
"""Bytes that all rows may take, and at most half of a disk; beyond it what was not used for longest goes."""
_VARIABLE = "HF_VIPRIORS_STORE"
WORTH_KEEPING = 1.0  # seconds of work: what took less is made again as fast as it is found
_WORTH_TELLING = 2**20  # bytes
_ROWS, _INDEX = ".rows", ".npy"
_ENTRY = np.dtype([("key", "V16"), ("sum", "u8")])
_ABANDONED = 86_400  # seconds after which rows without an index are what a killed process left


def keep_decoded(place: str | None) -> None:
    """Choose where this process and those it starts keep what they decode.

    Args:
        place: a folder; ``"none"``: nowhere; None: as the environment variable ``HF_VIPRIORS_STORE`` says, else the
            folder ``hf_vipriors_decoded`` of the cache of ``datasets``.
    """
    if place is not None:
        os.environ[_VARIABLE] = place


def kept_in() -> Path | None:
    """The folder of all rows, or None where nothing is kept."""
    place = os.environ.get(_VARIABLE) or str(Path(config.HF_DATASETS_CACHE) / "hf_vipriors_decoded")
    return None if place == NOWHERE else Path(place).expanduser()


@dataclass(frozen=True)
class Form(Generic[T]):
    """What is made of an image, as a row of bytes.

    Attributes:
        name: says all that decides the bytes, the code apart.
        width: bytes of a row.
        dump: the bytes of a value.
        load: the value of a row, (width,) uint8 that must not be written to.
    """

    name: str
    width: int
    dump: Callable[[T], bytes]
    load: Callable[[np.ndarray], T]


@functools.cache
def _code() -> str:
    """What decides the bytes beside a form's name: the modules that make rows, and the libraries they decode with."""
    here = Path(__file__).parent
    made_by = [(here / name).read_bytes() for name in ("image_decoding.py", "duplicates.py", "exact_copies.py")]
    made_by += [(here / name).read_bytes() for name in ("survey.py", "cifair.py", "decoded_cache.py")]
    libraries = [PIL.__version__, torchvision.__version__, *(str(features.version(each)) for each in ("jpg", "webp"))]
    return hashlib.sha256(b"\0".join([*made_by, *map(str.encode, libraries)])).hexdigest()


def _key(record: Mapping[str, Any] | None) -> bytes | None:
    """Of a file what tells that it is still the same, of embedded bytes their sum; None where there is no image."""
    if record is None or (record["bytes"] is None and record["path"] is None):
        return None
    if record["bytes"] is not None:
        return xxhash.xxh3_128_digest(record["bytes"])
    try:
        found = os.stat(record["path"])
    except OSError:
        return None
    told = f"{os.path.abspath(record['path'])}\0{found.st_size}\0{found.st_mtime_ns}"
    return xxhash.xxh3_128_digest(told.encode(errors="surrogateescape"))


class _Shard:
    """The rows that one command wrote, mapped and not read as a whole."""

    def __init__(self, index: Path, width: int) -> None:
        self.index, file = index, index.with_suffix(_ROWS)
        self.entries = np.load(index, allow_pickle=False)
        if self.entries.dtype != _ENTRY or file.stat().st_size != len(self.entries) * width:
            raise ValueError("cut off")
        self._rows = np.memmap(file, dtype=np.uint8, mode="r", shape=(len(self.entries), width))
        with suppress(OSError):  # of a place that is only read
            os.utime(index)  # what was not used for longest goes first

    def row(self, position: int) -> np.ndarray | None:
        """None where it is not what was written."""
        row = self._rows[position]
        return row if xxhash.xxh3_64_intdigest(row) == int(self.entries["sum"][position]) else None


class Kept(Generic[T]):
    """The rows of one form: what earlier commands left, and what this one adds.

    Args:
        form: of the rows.
        expected: rows that may be added, for room to be made in time.
    """

    def __init__(self, form: Form[T], expected: int) -> None:
        self._form, self._expected, self._place = form, expected, kept_in()
        self._where: dict[bytes, tuple[_Shard, int]] = {}
        self._keys: list[tuple[bytes, int]] = []
        self._waiting: list[bytes] = []
        self._file: BinaryIO | None = None
        self._since: float | None = None
        if self._place is not None:
            name = hashlib.sha256(f"{form.name}\0{form.width}\0{_code()}".encode()).hexdigest()[:24]
            self._path = self._place / name / f"{uuid.uuid4().hex}{_ROWS}"
            self._open()

    def _open(self) -> None:
        for index in sorted(self._path.parent.glob(f"*{_INDEX}")):
            try:
                shard = _Shard(index, self._form.width)
            except (OSError, ValueError, EOFError):
                _forget(index, "cut off")
            else:
                self._where.update((key, (shard, at)) for at, key in enumerate(shard.entries["key"].tolist()))

    def find(self, record: Mapping[str, Any] | None) -> tuple[bytes | None, T | None]:
        """(the image's key, what is kept of it), each of them or None."""
        key = None if self._place is None else _key(record)
        if key is None or key not in self._where:
            return key, None
        shard, position = self._where[key]
        if (row := shard.row(position)) is not None:
            return key, self._form.load(row)
        self._where = {each: place for each, place in self._where.items() if place[0] is not shard}
        _forget(shard.index, "altered")
        return key, None

    def add(self, key: bytes | None, value: T) -> None:
        """Keep a value. Nothing is written before the work has taken long enough to be worth it."""
        if key is None or self._place is None:
            return
        self._since = self._since or time.monotonic()
        row = self._form.dump(value)
        self._waiting.append(row)
        self._keys.append((key, xxhash.xxh3_64_intdigest(row)))
        if time.monotonic() - self._since >= WORTH_KEEPING:
            self._attempt(self._write)

    def close(self) -> None:
        """Let the next commands find what was added."""
        if self._file is not None:
            self._attempt(self._finish)

    def _write(self) -> None:
        if self._file is None:
            make_room(self._place, self._expected * self._form.width)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "xb")
        self._file.writelines(self._waiting)
        self._waiting.clear()

    def _finish(self) -> None:
        self._write()
        self._file.close()
        with replacing(self._path.with_suffix(_INDEX)) as part, open(part, "wb") as index:
            np.save(index, np.array(self._keys, dtype=_ENTRY))
        if (size := self._form.width * len(self._keys)) >= _WORTH_TELLING:
            mebibytes = size / 2**20
            logger.info("%.0f MiB of decoded images wait in %s for the next command (--store)", mebibytes, self._place)

    def _attempt(self, work: Callable[[], None]) -> None:
        """A full disk, or one that is only read, never ends the work that could be kept there."""
        try:
            work()
        except OSError as error:
            logger.warning("decoded images are not kept for the next command (--store): %s", one_line(error))
            self._place = None
            keep_decoded(NOWHERE)  # one warning is enough
            with suppress(OSError):
                if self._file is not None:
                    self._file.close()
                    self._path.unlink(missing_ok=True)
            self._file = None


def _forget(index: Path, why: str) -> None:
    logger.warning("decoded images kept as %s were %s: they are decoded again", index, why)
    with suppress(OSError):  # in a place that is only read they are passed over each time
        _remove(index)


def _remove(index: Path) -> None:
    for path in (index, index.with_suffix(_ROWS)):
        path.unlink(missing_ok=True)


def make_room(place: Path, count: int) -> None:
    """Remove what was not used for longest until ``count`` bytes more stay within the limit.

    Raises:
        OSError: so many are more than the limit.
    """
    used = {path.with_suffix(_INDEX): path.stat().st_size for path in place.glob(f"*/*{_ROWS}")}
    existing = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    limit = min(LIMIT, (shutil.disk_usage(existing).free + sum(used.values())) // 2)
    if count > limit:
        raise OSError(f"{count / 2**30:.1f} GiB are more than the {limit / 2**30:.1f} GiB that they may take here")
    for index in sorted(used, key=_last_used):
        if sum(used.values()) + count > limit or not _last_used(index):
            _remove(index)
            del used[index]


def _last_used(index: Path) -> float:
    """Of rows without an index, when they were written: another command is at work, or was killed (0)."""
    if index.exists():
        return index.stat().st_mtime
    written = index.with_suffix(_ROWS).stat().st_mtime
    return written if time.time() - written < _ABANDONED else 0.0
