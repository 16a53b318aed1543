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
    args: Any, images: int, *, most: int = 4096, otherwise: str = "use --method simclr"
) -> dict[str, Default]:
    """The queue length for a data set, where none was given; a given one is checked.

    It is the largest multiple of the batch that is at most min(most, images / 2): a queue as long as the data set
    holds, for every query, another view of the same image.

    Args:
        args: with ``queue_length``, ``step_images`` (keys that enter at once) and ``instance_aware``.
        images: in the training set.
        most: the published length. Default 4096 [2008.00261]; SEED has 65536 [2101.04731].
        otherwise: what else the user could do, for the error where no queue fits.

    Returns:
        ``{"queue_length": ...}``; empty where one was given.

    Raises:
        InputError: the queue is not smaller than the data set, or no queue fits.

    Example:
        >>> from types import SimpleNamespace
        >>> args = SimpleNamespace(queue_length=None, step_images=128, instance_aware=True)
        >>> [resolve_queue_length(args, images)["queue_length"].value for images in (5500, 500, 1_000_000)]
        [2688, 128, 4096]
    """
    given, batch = args.queue_length, args.step_images
    if given is None:
        length = min(most, images // 2) // batch * batch
        if length == 0:
            raise InputError(
                f"{images} images are too few for a queue with batches of {batch}: set "
                f"--per_device_train_batch_size to {max(1, images // 4)} or less, or {otherwise}"
            )
        masked = "masked" if args.instance_aware else "NOT masked"
        source = f"{images} images in batches of {batch}, at most {most}; a query's own image is {masked} in it"
        return {"queue_length": Default(length, source)}
    if given < 1:
        raise InputError(f"--queue_length must be at least 1, got {given}")
    if given >= images:
        raise InputError(
            f"--queue_length {given} is not smaller than the data set ({images} images): every query would meet its "
            f"own image in it; leave it out, or give at most {max(1, images // 2)}"
        )
    return {}
