"""What a machine refuses in the middle of a job, in one line: a full disk, memory, a data worker that was killed."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from ..disk_errors import explain_disk_error
from ..errors import one_line

_SMALLER = "take a smaller --per_device_train_batch_size with more --gradient_accumulation_steps, or --bf16"


def explain_error(error: BaseException, outputs: Iterable[Path] = ()) -> str | None:
    """What stopped a job and how to mend it, or None where it was not the machine and a traceback tells more.

    Args:
        error: what was raised.
        outputs: folders that the job writes to.

    Example:
        >>> explain_error(MemoryError())
        'the memory is full: take a smaller --per_device_train_batch_size with more ..., or a smaller --memory_share'
        >>> explain_error(ZeroDivisionError()) is None
        True
    """
    text = one_line(error, None)
    if isinstance(error, torch.OutOfMemoryError):
        return f"the accelerator's memory is full: {_SMALLER}"
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in text:
        return f"the memory is full: {_SMALLER}, or a smaller --memory_share"
    if isinstance(error, RuntimeError) and text.startswith(("DataLoader worker (pid", "DataLoader timed out")):
        killed = "a data worker was killed, mostly because the memory was full"
        silent = "a data worker delivered nothing for minutes: shared memory (/dev/shm) is full, or a disk hangs"
        return (
            f"{silent if 'timed out' in text else killed}: take fewer --dataloader_num_workers (0: none); "
            "--resume_from_checkpoint true goes on from the last checkpoint"
        )
    if isinstance(error, BrokenProcessPool):
        return "the process of a training was killed, mostly because the memory was full: take --at_once 1"
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return f"{error.strerror}; allow more open files (ulimit -n), or take fewer --dataloader_num_workers"
    return explain_disk_error(error, outputs)
