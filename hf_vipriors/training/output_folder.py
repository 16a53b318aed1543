"""A run's folder: whose it may be, and that one run at a time writes there."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from ..errors import InputError

logger = logging.getLogger(__name__)
LOCK_FILE = ".lock"
_held: dict[Path, int] = {}  # folder -> descriptor, of this process


def guard_output_dir(directory: str, *, overwrite: bool, resume: bool) -> None:
    """Refuse a folder that holds something, unless the run in it is to be resumed or replaced.

    Raises:
        InputError: naming the folder and the flag that mends it.
    """
    folder = Path(directory)
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

    The kernel holds the lock, not the file: one that a killed run left behind locks nothing. Where there is no
    ``fcntl`` (Windows), or the file system has no locks, nothing is locked; the latter is said.

    Args:
        directory: made if it does not exist.

    Raises:
        InputError: another process writes there.
    """
    folder = Path(directory).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32" or folder in _held:
        return
    import fcntl

    while True:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 20).decode(errors="replace")
            os.close(descriptor)
            raise InputError(
                f"--output_dir {directory}: another run (process {owner}) is writing there; wait for it, end it, or "
                "choose another folder"
            ) from None
        except OSError as error:
            os.close(descriptor)
            logger.warning("%s cannot be locked (%s): start no second run there", directory, error.strerror)
            return
        if _is_at(descriptor, folder / LOCK_FILE):
            break
        os.close(descriptor)  # its owner has just removed it
    os.truncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    _held[folder] = descriptor


def locked_folders() -> set[Path]:
    """Those that this process keeps others out of."""
    return set(_held)


def unlock_folders(folders: set[Path]) -> None:
    for folder in folders & _held.keys():
        (folder / LOCK_FILE).unlink(missing_ok=True)
        os.close(_held.pop(folder))


def _is_at(descriptor: int, path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())


def _forget() -> None:
    """In a fork, as a data worker is: it outlives a killed run by seconds, and must not hold its lock."""
    for descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget)
