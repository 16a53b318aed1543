"""Memory that a step frees stays with the process: the next step asks for the same again."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# The numbers of <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEEP = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20, _MMAP_MAX: 0}
_USUAL = {_TRIM_THRESHOLD: 128 * 2**10, _TOP_PAD: 0, _MMAP_MAX: 65536}  # what mallopt(3) documents


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Within it glibc gives no freed memory back to the system; at the end it gives back all it has.

    Left to itself it returns large blocks at once, and the system hands them out again page by page, each cleared: at
    128 pixels a step of the quickstart's phase 1 met up to 60,000 such page faults, 4 to 11 % of its time (none with
    it, for 5 % more memory). Only on a CPU, where activations lie in the process's own memory, and only under glibc;
    elsewhere nothing is done.

    Args:
        device: what the model trains on.

    Example:
        >>> with freed_memory_kept(torch.device("cpu")):
        ...     torch.ones(3).sum().item()
        3.0
    """
    if device.type != "cpu" or platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    _set(libc, _KEEP)
    try:
        yield
    finally:
        _set(libc, _USUAL)
        libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, values: dict[int, int]) -> None:
    for name, value in values.items():
        libc.mallopt(name, value)
