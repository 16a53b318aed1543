"""Images that stay encoded on disk and are decoded on access, for data that would not fit into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from ..errors import InputError
from .image_decoding import ResizeCrop, encoded, read_square, why_unreadable
from .image_records import Records, decoding_threads

Batch = dict[str, Tensor]
# A data worker that delivers nothing for so many seconds never will: torch by itself would wait without end.
WORKER_TIMEOUT = 300
_READ_AHEAD = 256  # encoded images held at once while they are summed


class StreamedStore(torch.utils.data.Dataset):
    """The interface of :class:`ImageStore` for images that stay encoded; workers of a DataLoader decode them.

    What it holds per image is a label (and a row number, where some images were skipped); Arrow files are mapped and
    not read as a whole. Every image was decoded once when the store was built, so bad ones are known before
    training. One that breaks later (a file changed meanwhile) raises :class:`InputError` naming it: by then its index
    is taken.

    Args:
        records: the encoded images.
        rows: those of the store, rising.
        geometry: see :class:`ResizeCrop`.
        channels: 1 for images that are all gray, else 3.
        reduced: see :func:`hf_vipriors.data.build_store`.
    """

    def __init__(
        self,
        records: Records,
        rows: range | np.ndarray,
        geometry: ResizeCrop,
        channels: int,
        *,
        reduced: bool = False,
    ) -> None:
        self._records, self._rows, self._reduced = records, rows, reduced
        self.geometry, self.labels = geometry, records.labels_of(rows)
        self.shape = (len(rows), channels, geometry.crop, geometry.crop)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Batch:
        return {name: values[0] for name, values in self.__getitems__([range(len(self))[i]]).items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        index = torch.as_tensor(indices, dtype=torch.int64)
        rows = [int(self._rows[i]) for i in index.tolist()]
        records = self._records.read(rows)
        # Filled, for stacking would keep Pillow's order of the axes: equal values, but other sums in a convolution.
        images = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)

        def fill(position: int) -> None:
            images[position] = self._pixels(rows[position], records[position])

        if get_worker_info() is None:  # nobody else decodes meanwhile
            with ThreadPoolExecutor(decoding_threads()) as pool:
                list(pool.map(fill, range(len(rows))))
        else:
            for position in range(len(rows)):
                fill(position)
        return {"pixel_values": torch.from_numpy(images), "labels": self.labels[index], "index": index}

    def _pixels(self, row: int, record: Any) -> np.ndarray:
        try:
            return read_square(record, self.geometry, self.shape[1], reduced=self._reduced)
        except MemoryError:
            raise
        except Exception as error:
            reason = why_unreadable(error)
            raise InputError(
                f"{self._records.complaint(row, reason)}; mend or remove it (a streamed store cannot skip it here)"
            ) from error

    def checksum(self) -> bytes:
        """SHA-256 of geometry, encoded images and labels; every file is read once."""
        whole = hashlib.sha256(f"{self.shape} {self.geometry} {self._reduced}".encode())
        for start in range(0, len(self), _READ_AHEAD):
            for record in self._records.read([int(row) for row in self._rows[start : start + _READ_AHEAD]]):
                file = encoded(record)
                whole.update(len(file).to_bytes(8, "little"))
                whole.update(file)
        whole.update(self.labels.contiguous().numpy())
        return whole.digest()

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the images take: none."""
        return 0
