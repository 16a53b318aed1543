"""Images decoded once to uint8 and kept in memory, or decoded on access where they would not fit."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil
import torch
from datasets import Dataset
from torch import Tensor

from hf_vipriors.data.image_decoding import Header, ResizeCrop, decode, read_header, read_pixels, why_unreadable
from hf_vipriors.data.image_records import BadImages, Records, Unreadable, map_rows
from hf_vipriors.errors import InputError, nearest

__all__ = ["ImageStore", "ResizeCrop", "StreamedStore", "build_store", "collate", "decode", "train_geometry"]

logger = logging.getLogger(__name__)

Batch = dict[str, Tensor]
_TRAIN_CROP_SHARE = 0.875  # the usual share of the picture that the centre crop keeps
_BAD_IMAGE_CHOICES = ("error", "skip")


def _channels_first(image: Any, channels: int) -> np.ndarray:
    """An L or RGB picture as (channels, H, W) uint8."""
    if channels == 1:
        return np.asarray(image)[None]
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


class ImageStore(torch.utils.data.Dataset):
    """Images of one size in memory, handed out a batch at a time.

    Attributes:
        images: (N, C, S, S) uint8; C is 1 only when every image is grey, else 3.
        labels: (N,) int64; -1 where there is none.

    Raises:
        ValueError: shapes or types differ from these.

    Example:
        >>> store = ImageStore(torch.zeros(10, 1, 28, 28, dtype=torch.uint8), torch.arange(10))
        >>> {name: tuple(value.shape) for name, value in store.__getitems__([3, 5]).items()}
        {'pixel_values': (2, 1, 28, 28), 'labels': (2,), 'index': (2,)}
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"images must be uint8 (N, 1 or 3, H, W), not {images.dtype} {tuple(images.shape)}")
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise ValueError(f"labels must be int64 ({len(images)},), not {labels.dtype} {tuple(labels.shape)}")
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Batch:
        """One image: ``pixel_values`` (C, S, S), and ``labels`` and ``index`` without dimensions."""
        index = range(len(self))[i]
        return {"pixel_values": self.images[index], "labels": self.labels[index], "index": torch.tensor(index)}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A batch: ``pixel_values`` (B, C, S, S) uint8, ``labels`` (B,), ``index`` (B,) = position in the store."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return {"pixel_values": self.images[index], "labels": self.labels[index], "index": index}

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, S, S)."""
        return tuple(self.images.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the images take."""
        return self.images.nbytes


class StreamedStore(torch.utils.data.Dataset):
    """The interface of :class:`ImageStore` for images that stay encoded; workers of a DataLoader decode them.

    Every picture was decoded once when the store was built, so bad ones are known before training. One that breaks
    later (a file changed meanwhile) raises :class:`InputError` naming it: by then its index is taken.
    """

    def __init__(self, records: Records, rows: Sequence[int], geometry: ResizeCrop, channels: int) -> None:
        self._records, self._rows = records, np.asarray(rows, dtype=np.int64)
        self.geometry, self.labels = geometry, records.labels[torch.from_numpy(self._rows)]
        self.shape = (len(self._rows), channels, geometry.crop, geometry.crop)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Batch:
        return {name: values[0] for name, values in self.__getitems__([range(len(self))[i]]).items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        index = torch.as_tensor(indices, dtype=torch.int64)
        rows = self._rows[index.numpy()].tolist()
        pixels = [self._pixels(row, record) for row, record in zip(rows, self._records.read(rows), strict=True)]
        return {"pixel_values": torch.from_numpy(np.stack(pixels)), "labels": self.labels[index], "index": index}

    def _pixels(self, row: int, record: Any) -> np.ndarray:
        try:
            return _channels_first(self.geometry(read_pixels(record)), self.shape[1])
        except MemoryError:
            raise
        except Exception as error:
            reason = why_unreadable(error)
            raise InputError(
                f"{self._records.complaint(row, reason)}; mend or remove it (a streamed store cannot skip it here)"
            ) from error

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the images take: none."""
        return 0


def train_geometry(datasets: Dataset | Sequence[Dataset], size: int, interpolation: str = "bicubic") -> ResizeCrop:
    """Choose the square in which training images are kept before augmentation.

    Its side is min(floor(size / 0.875), the largest shorter side of any image): room for random crops, but no pixel
    that was never photographed. Unreadable images do not count; :func:`build_store` reports them.

    Args:
        datasets: with an undecoded ``image`` column.
        size: side of the network's input.
        interpolation: see :class:`ResizeCrop`.

    Example:
        >>> from hf_vipriors.data import load_splits
        >>> train_geometry(load_splits("fashion-vipriors").splits["train"], 64)
        ResizeCrop(resize=28, crop=28, interpolation='bicubic')
    """
    records = Records(datasets, "train")
    wanted, largest = math.floor(size / _TRAIN_CROP_SHARE), 0
    for _, header in map_rows(records, range(len(records)), read_header, "image sizes"):
        if isinstance(header, Header):
            largest = max(largest, header.shorter_side)
        if largest >= wanted:
            break
    side = min(wanted, largest or wanted)
    return ResizeCrop(side, side, interpolation)


def _memory_budget(memory_share: float) -> float:
    """Bytes that this process may take; the processes of one launch on this machine share what is available."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return memory_share * psutil.virtual_memory().available / processes


def _decode_all(
    records: Records, rows: Sequence[int], geometry: ResizeCrop, channels: int, bad: BadImages
) -> ImageStore:
    images = np.empty((len(rows), channels, geometry.crop, geometry.crop), dtype=np.uint8)
    kept: list[int] = []

    def work(record: Any) -> np.ndarray:
        return _channels_first(geometry(read_pixels(record)), channels)

    for row, pixels in map_rows(records, rows, work, f"decoding {records.name}"):
        if isinstance(pixels, Unreadable):
            bad.add(row, pixels)
        else:
            images[len(kept)] = pixels
            kept.append(row)
    return ImageStore(torch.from_numpy(images[: len(kept)]), records.labels[kept])


def _readable(records: Records, rows: Sequence[int], bad: BadImages) -> list[int]:
    """The rows whose pixels can be decoded. An error now is better than one in the middle of a run."""
    kept = []
    for row, outcome in map_rows(records, rows, _decodes, f"verifying {records.name}"):
        if isinstance(outcome, Unreadable):
            bad.add(row, outcome)
        else:
            kept.append(row)
    return kept


def _decodes(record: Any) -> None:
    read_pixels(record)


def build_store(
    datasets: Dataset | Sequence[Dataset],
    geometry: ResizeCrop,
    *,
    on_bad_image: str = "error",
    memory_share: float = 0.5,
    name: str = "train",
) -> ImageStore | StreamedStore:
    """Decode images once into memory, or stream them when they need more than their share of it.

    Args:
        datasets: one or more data sets with an undecoded ``image`` column and perhaps ``label``; they are
            concatenated.
        geometry: the size to keep them in.
        on_bad_image: ``"error"`` or ``"skip"`` (drop, count and log). Labels stay aligned, and ``index`` counts the
            images kept, 0..N-1.
        memory_share: share of the available memory that the images may take (divided among the processes of this
            launch on this machine); 0 streams always.
        name: for the log and for error messages.

    Returns:
        :class:`ImageStore`, or beyond the share :class:`StreamedStore`, which gives the same tensors.

    Raises:
        InputError: an unreadable image (path, or split and row, named), no readable image at all, a bad option.

    Example:
        >>> from hf_vipriors.data import load_splits
        >>> build_store(load_splits("fashion-vipriors").splits["test"], ResizeCrop(28, 28), name="test").shape
        (2000, 1, 28, 28)
    """
    if on_bad_image not in _BAD_IMAGE_CHOICES:
        raise InputError(f"--on_bad_image {on_bad_image!r} is unknown: {nearest(on_bad_image, _BAD_IMAGE_CHOICES)}")
    if not 0 <= memory_share <= 1:
        raise InputError(f"--memory_share {memory_share} is no share: choose a number from 0 to 1")
    records = Records(datasets, name)
    bad = BadImages(records, on_bad_image)
    rows, gray = [], True
    for row, header in map_rows(records, range(len(records)), read_header, f"checking {name}"):
        if isinstance(header, Unreadable):
            bad.add(row, header)
        else:
            rows.append(row)
            gray = gray and header.gray
    channels = 1 if gray else 3
    needed = len(rows) * channels * geometry.crop**2
    budget = _memory_budget(memory_share)
    if needed > budget:
        store = StreamedStore(records, _readable(records, rows, bad), geometry, channels)
        fate = f"would take more than {budget / 2**20:.1f} MiB: streamed (faster with --dataloader_num_workers)"
    else:
        store = _decode_all(records, rows, geometry, channels, bad)
        fate = "in memory"
    if not len(store):
        raise InputError(f"none of the {len(records)} {name} images can be read: check the data set")
    if bad.count:
        logger.warning("%s: %d of %d images are unreadable and were skipped", name, bad.count, len(records))
    size = math.prod(store.shape) / 2**20
    logger.info("%s: %d images, uint8 %s, %.1f MiB %s", name, len(store), store.shape, size, fate)
    return store


def collate(batch: Batch) -> Batch:
    """Pass on what ``__getitems__`` returned: the ``collate_fn`` for a DataLoader over a store.

    Example:
        >>> store = ImageStore(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4))
        >>> next(iter(torch.utils.data.DataLoader(store, batch_size=2, collate_fn=collate)))["labels"]
        tensor([0, 1])
    """
    return batch
