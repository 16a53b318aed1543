"""One process of each machine fills memory that the others of its launch map: what is decoded is there once."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class SharedBytes:
    """Memory without a name in any folder: it goes when the last process that maps it ends, however that ends.

    Of two processes only the numbers travel. Pages live in the machine's memory as those of ``/dev/shm`` do, without
    the limit that containers set there.

    Attributes:
        process: that made it.
        descriptor: in that process.
        count: bytes.
    """

    process: int
    descriptor: int
    count: int

    @classmethod
    def create(cls, count: int) -> SharedBytes:
        """Zeros; they take memory as they are written."""
        descriptor = os.memfd_create("images")
        os.ftruncate(descriptor, count)
        return cls(os.getpid(), descriptor, count)

    def map(self) -> Tensor:
        """(count,) uint8, in any process of the same user on the machine until :meth:`release`.

        As torch sees it the tensor is shared memory, so that spawned data workers get it without a copy too.

        Raises:
            OSError: the system does not let this process see the other one's memory.
        """
        new_shared = torch.UntypedStorage._new_shared_fd_cpu  # type: ignore[attr-defined]  # made in C
        descriptor = os.open(f"/proc/{self.process}/fd/{self.descriptor}", os.O_RDWR)
        try:
            storage = new_shared(descriptor, self.count)  # keeps a descriptor of its own
        finally:
            os.close(descriptor)
        return torch.empty(0, dtype=torch.uint8).set_(storage)

    def release(self) -> None:
        """Nobody can map it any more; where it is mapped it stays."""
        os.close(self.descriptor)


@dataclass(frozen=True)
class _Outcome:
    """What a process did, as the others hear of it."""

    value: Any = None
    mistake: str | None = None  # of the user
    failure: str | None = None


def _attempt(work: Callable[[], Any]) -> _Outcome:
    try:
        return _Outcome(work())
    except InputError as error:
        return _Outcome(mistake=str(error))
    except Exception as error:
        return _Outcome(failure=f"process {dist.get_rank()}: {''.join(traceback.format_exception(error))}")


def _exchange(mine: T) -> list[T]:
    """Of every process, in rank order."""
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    return everyone


def _agree(mine: _Outcome) -> list[_Outcome]:
    """Everyone's outcome, or the first error on every process alike: none waits for one that has ended."""
    outcomes = _exchange(mine)
    for outcome in outcomes:
        if outcome.mistake is not None:
            raise InputError(outcome.mistake)
        if outcome.failure is not None:
            raise RuntimeError(outcome.failure)
    return outcomes


def is_launched() -> bool:
    """Whether this is one of several processes that can share memory; known once their group exists."""
    return sys.platform == "linux" and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def once_per_machine(
    work: Callable[[Callable[[int], Tensor]], tuple[T, Tensor | None]],
) -> tuple[T, Tensor | None]:
    """Let the first process of each machine work for all of them. Every process of the launch must call it.

    Args:
        work: gets a function that makes (count,) uint8 of shared memory, to be called once at most; gives a result
            that can be pickled, and that memory.

    Returns:
        The same on every process.

    Raises:
        InputError, RuntimeError: what went wrong on any process, with the same text on all of them.
    """
    # The name of the machine, and the process numbers that are seen from here: containers may share the first.
    places = _exchange((socket.gethostname(), os.readlink("/proc/self/ns/pid")))
    first = places.index(places[dist.get_rank()])
    made: list[SharedBytes] = []

    def allocate(count: int) -> Tensor:
        made.append(SharedBytes.create(count))
        return made[0].map()

    def whole() -> tuple[T, SharedBytes | None]:
        result, _ = work(allocate)
        return result, made[0] if made else None

    try:
        outcomes = _agree(_attempt(whole) if first == dist.get_rank() else _Outcome())
        result, memory = outcomes[first].value
        mapped = _attempt(memory.map) if memory is not None else _Outcome()
        # Not before all have mapped it may the memory be released.
        _agree(_Outcome(failure=mapped.failure))
        return result, mapped.value
    finally:
        for each in made:
            each.release()
