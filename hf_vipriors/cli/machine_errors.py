"""What a machine refuses in the middle of a job, in one line: a full disk, memory, a data worker that was killed."""

from __future__ import annotations

import errno

import torch

from ..errors import one_line

_FULL = "free some space, or choose another --output_dir"
_NO_RIGHTS = "choose files that you may read and an --output_dir that you may write to"
_DISK = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "raise the limit on the size of files, or choose another --output_dir",
    errno.EROFS: "choose an --output_dir that can be written to",
    errno.EACCES: _NO_RIGHTS,
    errno.EPERM: _NO_RIGHTS,
    errno.EMFILE: "allow more open files (ulimit -n), or take fewer --dataloader_num_workers",
}
_DISK_FULL = ("No space left on device", "Disk quota exceeded", "File too large", "PytorchStreamWriter failed")
_SMALLER = "take a smaller --per_device_train_batch_size with more --gradient_accumulation_steps, or --bf16"


def explain_error(error: BaseException) -> str | None:
    """What stopped a job and how to mend it, or None where it was not the machine and a traceback tells more.

    Example:
        >>> explain_error(OSError(28, "No space left on device", "student/model.safetensors"))
        "No space left on device: 'student/model.safetensors'; free some space, or choose another --output_dir"
        >>> explain_error(ZeroDivisionError()) is None
        True
    """
    text = one_line(error, None)
    if isinstance(error, torch.OutOfMemoryError):
        return f"the accelerator's memory is full: {_SMALLER}"
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in text:
        return f"the memory is full: {_SMALLER}, or a smaller --memory_share"
    if isinstance(error, RuntimeError) and text.startswith("DataLoader worker (pid"):
        return (
            "a data worker was killed, mostly because the memory was full: take fewer --dataloader_num_workers (0: "
            "none); --resume_from_checkpoint true goes on from the last checkpoint"
        )
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f": {error.filename!r}" if error.filename else ""
        return f"{error.strerror}{where}; {_DISK[error.errno]}"
    # safetensors and torch.save have errors of their own for this.
    if any(words in text for words in _DISK_FULL):
        return f"{text.rstrip('.')}; {_FULL}"
    return None
