"""Folders that are there whole or not at all; what a killed process left of one is removed by the next."""

from __future__ import annotations

import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.utils import CONFIG_NAME

if sys.platform != "win32":
    import fcntl


@contextmanager
def whole_folder(directory: Path | str) -> Iterator[Path]:
    """A folder beside ``directory`` to write into, whose files move there at the end, ``config.json`` last.

    On an error nothing of them is left, and ``directory`` is as it was. Files of other names stay in it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as outputs:
        ...     with whole_folder(f"{outputs}/student") as folder:
        ...         _ = (folder / "config.json").write_text("{}")
        ...     os.listdir(f"{outputs}/student")
        ['config.json']
    """
    directory = Path(directory)
    with temporary_folder(directory.parent, directory.name) as temporary:
        yield temporary
        if not directory.exists():
            temporary.rename(directory)
            return
        # Who reads a folder looks for its config first: there is none while other files are of two minds.
        (directory / CONFIG_NAME).unlink(missing_ok=True)
        for name in sorted(os.listdir(temporary), key=lambda name: name == CONFIG_NAME):
            os.replace(temporary / name, directory / name)


@contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """A hidden folder ``.NAME-xxxxxxxx`` inside ``parent``, removed at the end if it is still there.

    Those of ``name`` whose processes were killed are removed first. Each is locked by its process, and the kernel
    lets go of a lock however its process ends: whatever is locked, or cannot be, stays.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(".*"):
        ours = re.fullmatch(rf"\.{re.escape(name)}-[0-9a-f]{{8}}", left.name) and not left.is_symlink()
        if ours and (lock := _lock(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    while True:
        temporary = parent / f".{name}-{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
        lock = _lock(temporary, wait=True)
        if temporary.exists():  # else another process has removed it, before it was locked
            break
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _lock(folder: Path, *, wait: bool = False) -> int | None:
    """The descriptor that holds the lock; None where another has it, or where folders cannot be locked."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (AttributeError, OSError):  # no Unix; no folder
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
