"""A run's folder: whose it may be, and that one run at a time writes there."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import InputError
from ..files import is_utf8

logger = logging.getLogger(__name__)
LOCK_FILE = ".lock"
_locks: dict[Path, FileLock] = {}
_outputs: set[Path] = set()


def guard_output_dir(directory: str, *, overwrite: bool, resume: bool) -> None:
    """Refuse a folder that holds something, unless the run in it is to be resumed or replaced.

    Raises:
        InputError: naming the folder and the flag that mends it.
    """
    folder = Path(directory)
    if not is_utf8(directory):
        raise InputError(
            f"--output_dir {os.fsencode(directory)!r} is not UTF-8, as weights need it: choose another name"
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir {directory} is a file: give a folder")
    parent = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    if not os.access(parent, os.W_OK):
        raise InputError(f"--output_dir {directory} cannot be written: no rights on {parent}")
    if not folder.exists() or all(path.name == LOCK_FILE for path in folder.iterdir()) or resume:
        return
    ours = (folder / "run.json").is_file()
    if overwrite and ours:
        return
    if overwrite:
        raise InputError(f"--output_dir {directory} holds files that no run of ours made: choose another folder")
    if ours:
        raise InputError(
            f"--output_dir {directory} holds another run: add --overwrite_output_dir to replace it, "
            "--resume_from_checkpoint true to go on with it, or choose another folder"
        )
    raise InputError(f"--output_dir {directory} is not empty: choose another folder")


def lock_folder(directory: str) -> None:
    """Keep other runs out of a folder until :func:`unlock_folders`, or the end of this process however it comes.

    The kernel holds the lock, not the file: one that a killed run left behind locks nothing. Data workers forked from
    this process do not hold it. A file system without locks is named in a warning, and nothing is locked.

    Args:
        directory: made if it does not exist.

    Raises:
        InputError: another process writes there.
    """
    folder = Path(directory).resolve()
    _outputs.add(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if folder in locked_folders():
        return
    lock = FileLock(folder / LOCK_FILE, thread_local=False, on_acquired=_write_owner)
    try:
        lock.acquire(timeout=0.2)  # more than none: a file that its owner is just removing is tried again
    except Timeout:
        raise InputError(
            f"--output_dir {directory}: another run (process {_owner(folder / LOCK_FILE)}) is writing there; wait for "
            "it, end it, or choose another folder"
        ) from None
    except OSError as error:
        logger.warning("%s cannot be locked (%s): start no second run there", directory, error.strerror)
        return
    _locks[folder] = lock


def locked_folders() -> set[Path]:
    """Those that this process keeps others out of; none in a fork of it, where filelock has let go of them."""
    return {folder for folder, lock in _locks.items() if lock.is_locked}


def outputs() -> set[Path]:
    """Every folder that this process was to write in."""
    return _outputs


def unlock_folders(folders: set[Path]) -> None:
    for folder in folders & locked_folders():
        with suppress(PermissionError):  # Windows: the file is open; there, release removes it
            (folder / LOCK_FILE).unlink(missing_ok=True)
        _locks.pop(folder).release()


def _write_owner(descriptor: int) -> None:
    """After the first byte, which others cannot read on Windows while it is locked."""
    os.truncate(descriptor, 0)
    os.write(descriptor, f" {os.getpid()}".encode())


def _owner(path: Path) -> str:
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(1)
            return file.read(20).decode(errors="replace")
    except OSError:  # gone, or not ours to read
        return "unknown"
