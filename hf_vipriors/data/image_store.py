"""Images decoded once to uint8 and kept in memory, or decoded on access where they would not fit."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Sequence

import torch
from datasets import Dataset
from torch import Tensor

from ..errors import InputError, nearest
from ..machine import sharers
from .image_decoding import Header, ResizeCrop, decode, read_header
from .image_records import Records, map_rows
from .shared_memory import is_launched, once_per_machine
from .store_preparation import HEADERS, prepare
from .streamed_store import Batch, StreamedStore

__all__ = ["ImageStore", "ResizeCrop", "StreamedStore", "build_store", "collate", "decode", "train_geometry"]

logger = logging.getLogger(__name__)

_TRAIN_CROP_SHARE = 0.875  # the usual share of the image that the centre crop keeps
_BAD_IMAGE_CHOICES = ("error", "skip")


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

    def checksum(self) -> bytes:
        """SHA-256 of shape, pixels and labels."""
        whole = hashlib.sha256(str(self.shape).encode())
        whole.update(self.images.contiguous().numpy())
        whole.update(self.labels.contiguous().numpy())
        return whole.digest()

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the images take."""
        return self.images.nbytes


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
        ResizeCrop(resize=28, crop=28, interpolation='bicubic', full_scale=None)
    """
    records = Records(datasets, "train")
    wanted, largest = math.floor(size / _TRAIN_CROP_SHARE), 0
    for _, header in map_rows(records, range(len(records)), read_header, "image sizes", HEADERS):
        if isinstance(header, Header):
            largest = max(largest, header.shorter_side)
        if largest >= wanted:
            break
    side = min(wanted, largest or wanted)
    return ResizeCrop(side, side, interpolation)


def build_store(
    datasets: Dataset | Sequence[Dataset],
    geometry: ResizeCrop,
    *,
    on_bad_image: str = "error",
    memory_share: float = 0.5,
    name: str = "train",
    reduced: bool = False,
    every_process: bool = False,
) -> ImageStore | StreamedStore:
    """Decode images once into memory, or stream them when they need more than their share of it.

    Args:
        datasets: one or more data sets with an undecoded ``image`` column and perhaps ``label``; they are
            concatenated.
        geometry: the size to keep them in.
        on_bad_image: ``"error"`` or ``"skip"`` (drop, count and log). Labels stay aligned, and ``index`` counts the
            images kept, 0..N-1.
        memory_share: share of the available memory that the images may take (divided among the processes of this
            launch on this machine that hold images of their own); 0 streams always.
        name: for the log and for error messages.
        reduced: decode large JPEGs at a fraction of their size, twice the kept size at least: in half the time, and
            pixels that differ by 0.4 of 255 levels on average. For training; what a model is measured on is decoded
            as ``pipeline("image-classification")`` decodes it.
        every_process: promises that all processes of this launch make this call, in this order. Then one of each
            machine looks at the images, and the others map the memory it filled.

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
    shared = every_process and is_launched()
    owners = 1 if shared else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    options = {"on_bad_image": on_bad_image, "memory_share": memory_share / (owners * sharers()), "reduced": reduced}
    if shared:
        found, memory = once_per_machine(lambda new: prepare(records, geometry, allocate=new, **options))
    else:
        found, memory = prepare(records, geometry, allocate=_private_bytes, **options)
    if memory is None:
        store = StreamedStore(records, found.rows, geometry, found.channels, reduced=reduced)
        storage = f"would take more than {found.budget / 2**20:.1f} MiB: streamed"
    else:
        images = memory.view(-1, found.channels, geometry.crop, geometry.crop)[: len(found.rows)]
        store = ImageStore(images, records.labels_of(found.rows))
        storage = "in memory" + ", once for all processes here" * shared
    if found.skipped:
        logger.warning("%s: %d of %d images are unreadable and were skipped", name, found.skipped, len(records))
    size = math.prod(store.shape) / 2**20
    logger.info("%s: %d images, uint8 %s, %.1f MiB %s", name, len(store), store.shape, size, storage)
    return store


def _private_bytes(count: int) -> Tensor:
    return torch.empty(count, dtype=torch.uint8)


def collate(batch: Batch) -> Batch:
    """Outputs on what ``__getitems__`` returned: the ``collate_fn`` for a DataLoader over a store.

    Example:
        >>> store = ImageStore(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4))
        >>> next(iter(torch.utils.data.DataLoader(store, batch_size=2, collate_fn=collate)))["labels"]
        tensor([0, 1])
    """
    return batch
