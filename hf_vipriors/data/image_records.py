"""The encoded images of one or more data sets as one list, read in order and worked on in threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from tqdm.auto import tqdm

from ..errors import InputError
from ..machine import usable_cores
from .columns import label_array
from .decoded_cache import Form, Kept
from .image_decoding import DoesNotFit, why_unreadable

logger = logging.getLogger(__name__)

_CHUNK = 256  # rows read ahead of the decoding threads; bounds the memory that encoded images take
_BAD_IMAGES_LOGGED = 5
_FULL_SCALES = (1, 255, 4095, 65535)  # to suggest: of shares, and of 8, 12 (cameras, scanners) and 16 bits


@dataclass(frozen=True)
class Unreadable:
    """What takes the place of an image that could not be read."""

    reason: str


class Records:
    """The encoded images and labels of one or more data sets, one after the other."""

    def __init__(self, parts: Dataset | Sequence[Dataset], name: str) -> None:
        parts = [parts] if isinstance(parts, Dataset) else list(parts)
        parts = [part for part in parts if len(part)]
        if not parts:
            raise InputError(f"no {name} images: check the splits of the data set")
        self.name = name
        self.labels = torch.from_numpy(
            np.concatenate(
                [label_array(part) if "label" in part.column_names else np.full(len(part), -1) for part in parts]
            )
        )
        self._rows = concatenate_datasets([part.with_format(None).select_columns(["image"]) for part in parts])
        self._parts = parts

    def __len__(self) -> int:
        return len(self._rows)

    def labels_of(self, rows: range | np.ndarray) -> torch.Tensor:
        """The labels of some row numbers; of all rows the very tensor."""
        return self.labels if len(rows) == len(self) else self.labels[torch.from_numpy(rows)]

    def read(self, rows: Sequence[int]) -> list[dict[str, Any] | None]:
        """The encoded images of some row numbers."""
        contiguous = len(rows) and rows[-1] - rows[0] + 1 == len(rows) and bool((np.diff(rows) == 1).all())
        return self._rows[slice(rows[0], rows[-1] + 1) if contiguous else rows]["image"]

    def place(self, row: int) -> str:
        """Name a row for the user: its path, and where that is inside a table, its split and row number."""
        inside = row
        for part in self._parts:
            if inside < len(part):
                break
            inside -= len(part)
        record = part[inside]["image"] or {"bytes": None, "path": None}
        if record["path"] is not None and record["bytes"] is None:
            return repr(record["path"])
        place = part[inside]["origin"] if "origin" in part.column_names else f"{self.name} row {row}"
        return place if record["path"] is None else f"{place} ({record['path']!r})"

    def refusal(self, found: list[tuple[int, DoesNotFit]]) -> InputError:
        """The error for wide gray images of a data set without a full scale: (row, values) of each."""
        row, example = max(found, key=lambda pair: pair[1].high)
        high = example.high
        scale = next((scale for scale in _FULL_SCALES if high <= scale), high)
        return InputError(
            f"{len(found)} of {len(self)} {self.name} images hold gray values that do not fit 8 bits, up to {high:g} "
            f"in {self.place(row)}: pipeline() and the Hub widget would clip them; say which value is white in all of "
            f"this data set, such as --full_scale {scale:g}"
        )

    def complaint(self, row: int, reason: str) -> str:
        """The beginning of an error or log line about an unreadable image."""
        return f"unreadable image {self.place(row)}: {reason}"


def decoding_threads() -> int:
    """One a core that this process may use: Pillow releases the GIL while it decodes."""
    return max(2, usable_cores())


def map_rows(
    records: Records, rows: range | np.ndarray, work: Callable[[Any], Any], title: str, form: Form
) -> Iterator[tuple[int, Any]]:
    """Yield ``(row, work(image))`` in order, or ``(row, Unreadable)``; the work runs in a thread a core.

    The rows are read in this thread: Arrow tables are shared safely so. Never more than a few hundred are in memory.

    Args:
        records: the images.
        rows: which of them.
        work: what is done with each.
        title: of the progress bar.
        form: of what the work gives; where an earlier command has kept it on disk, no work is done.

    Raises:
        InputError: at the end, where gray values of some images need a full scale: those are not bad images, and no
            option leaves them out.
    """
    misfits: list[tuple[int, DoesNotFit]] = []

    def attempt(record: Any) -> Any:
        try:
            return work(record)
        except MemoryError:
            raise
        except DoesNotFit as error:
            return error
        except Exception as error:  # Pillow's plugins raise many types: OSError, SyntaxError, struct.error, ...
            return Unreadable(why_unreadable(error))

    # A bar only for work that takes more than two seconds.
    with (
        ThreadPoolExecutor(decoding_threads()) as pool,
        tqdm(total=len(rows), desc=title, unit="img", delay=2) as bar,
        closing(Kept(form, len(rows))) as kept,
    ):
        for start in range(0, len(rows), _CHUNK):
            chunk = [int(row) for row in rows[start : start + _CHUNK]]
            images = records.read(chunk)
            found = [kept.find(image) for image in images]
            made = pool.map(attempt, [image for image, (_, value) in zip(images, found, strict=True) if value is None])
            for row, (key, value) in zip(chunk, found, strict=True):
                if value is None:
                    value = next(made)
                    if not isinstance(value, Unreadable | DoesNotFit):
                        kept.add(key, value)
                if isinstance(value, DoesNotFit):
                    misfits.append((row, value))
                else:
                    yield row, value
            bar.update(len(chunk))
    if misfits:
        raise records.refusal(misfits)


class BadImages:
    """Raises at the first unreadable image, or counts them and logs the first few."""

    def __init__(self, records: Records, on_bad_image: str) -> None:
        self.records, self.skip, self.count = records, on_bad_image == "skip", 0

    def add(self, row: int, bad: Unreadable) -> None:
        """Take note of one."""
        complaint = self.records.complaint(row, bad.reason)
        if not self.skip:
            raise InputError(f"{complaint}; mend or remove it, or go on without it: --on_bad_image skip")
        self.count += 1
        if self.count <= _BAD_IMAGES_LOGGED:
            logger.warning("%s; skipped", complaint)
