"""A ring of earlier embeddings, each with the number of its image, and how long it may be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..options import Default
from .distributed import gather


class KeyQueue(nn.Module):
    """The last K embeddings of all processes, oldest overwritten first.

    Args:
        length: K.
        width: D of an embedding.

    Attributes:
        keys: ``(K, D)`` unit vectors; random ones stand in until the first arrive, as in 1911.05722.
        index: ``(K,)`` number of the image behind each key, -1 where none.

    Raises:
        ValueError: when the queue would be empty.

    Example:
        >>> queue = KeyQueue(4, 8)
        >>> queue.push(torch.randn(3, 8), torch.tensor([7, 8, 9]))
        >>> queue.index
        tensor([ 7,  8,  9, -1])
    """

    def __init__(self, length: int, width: int):
        super().__init__()
        if length < 1:
            raise ValueError(f"queue_length must be at least 1, got {length}")
        self.register_buffer("keys", F.normalize(torch.randn(length, width), dim=1))
        self.register_buffer("index", torch.full((length,), -1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        return len(self.keys)

    @torch.no_grad()
    def push(self, keys: Tensor, index: Tensor) -> None:
        """Add unit ``keys`` ``(B, D)`` that are already those of all processes, the same on each of them."""
        positions = (self.pointer + torch.arange(len(keys), device=keys.device)) % len(self)
        # A batch longer than the queue would write a slot twice: the last keys stay.
        keep = slice(max(0, len(keys) - len(self)), None)
        self.keys[positions[keep]] = keys[keep].to(self.keys.dtype)
        self.index[positions[keep]] = index[keep]
        self.pointer.copy_((self.pointer + len(keys)) % len(self))

    def push_from_all(self, embeddings: Tensor, index: Tensor) -> None:
        """Normalise this process's embeddings and add those of every process in rank order."""
        self.push(gather(F.normalize(embeddings.detach().float(), dim=1)), gather(index))


def resolve_queue_length(
    images: int, batch: int, given: int | None = None, *, most: int = 4096, otherwise: str = "use --method simclr"
) -> int:
    """The queue length for a data set, or the one given where it can work.

    By default the largest multiple of the batch that is at most min(most, images / 2): a queue as long as the data set
    holds, for every query, another view of the same image.

    Args:
        images: in the training set.
        batch: global batch, keys that enter at once.
        given: what was asked for.
        otherwise: what else the user could do, for the error where no queue fits.
        most: the published length. Default 4096 [2008.00261]; SEED has 65536 [2101.04731].

    Raises:
        InputError: when the queue is not smaller than the data set, or no queue fits.

    Example:
        >>> [resolve_queue_length(images, 128) for images in (5500, 500, 1_000_000)]
        [2688, 128, 4096]
    """
    if given is None:
        length = min(most, images // 2) // batch * batch
        if length == 0:
            raise InputError(
                f"{images} images are too few for a queue with batches of {batch}: set "
                f"--per_device_train_batch_size to {max(1, images // 4)} or less, or {otherwise}"
            )
        return length
    if given < 1:
        raise InputError(f"--queue_length must be at least 1, got {given}")
    if given >= images:
        raise InputError(
            f"--queue_length {given} is not smaller than the data set ({images} images): every query would meet its "
            f"own image in it; leave it out, or give at most {max(1, images // 2)}"
        )
    return given


def queue_default(args: Any, images: int, *, most: int = 4096, **options: str) -> dict[str, Default]:
    """``queue_length`` where it was not given; a given one is checked. For :meth:`Method.data_defaults`."""
    length = resolve_queue_length(images, args.step_images, args.queue_length, most=most, **options)
    if args.queue_length is not None:
        return {}
    masked = "masked" if args.instance_aware else "NOT masked"
    source = f"{images} images in batches of {args.step_images}, at most {most}; a query's own image is {masked} in it"
    return {"queue_length": Default(length, source)}
