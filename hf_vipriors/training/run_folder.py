"""A run's folder: from which checkpoint it goes on, whether it may write there, and that one run at a time does."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from filelock import FileLock, Timeout

from ..errors import InputError
from ..files import check_can_write, is_utf8
from ..methods.sskd_head import HEAD
from .arguments import RunArguments
from .checkpoints import STAGING, checkpoints_in, complete_checkpoint, damage, newest_checkpoint
from .run_files import METRICS_FILE, PARTS, RUN_FILE, RUN_FILES, SEARCH_JOURNAL
from .signals import Stopped

logger = logging.getLogger(__name__)
LOCK_FILE = ".lock"
_locks: dict[Path, FileLock] = {}
_outputs: set[Path] = set()
P, R = ParamSpec("P"), TypeVar("R")
YES, NO = ("true", "latest", "yes"), ("none", "false", "no")


def resume_point(args: RunArguments) -> str | None:
    """The checkpoint to go on from: 'true' or 'latest' for the newest whole one in the output folder, or a folder.

    Raises:
        InputError: there is none.
    """
    wanted = str(args.resume_from_checkpoint)
    if wanted.lower() in NO:
        return None
    if wanted.lower() in YES:
        return newest_checkpoint(args.output_dir)
    if not Path(wanted).is_dir():
        raise InputError(f"no such checkpoint folder {wanted} (--resume_from_checkpoint)")
    wrong = damage(Path(wanted))
    if wrong is not None:
        raise InputError(f"checkpoint {wanted} is not whole ({wrong}): give another, or --resume_from_checkpoint true")
    return wanted


def resumes_in_place(args: RunArguments, resume: str | None) -> bool:
    """Whether a run goes on in the folder that its checkpoint lies in."""
    return resume is not None and Path(resume).resolve().parent == Path(args.output_dir).resolve()


def check_output_dir(args: RunArguments, resume: str | None) -> None:
    """Refuse a folder that holds something, unless the run in it is to be resumed or replaced.

    Raises:
        InputError: naming the folder and the option that mends it.
    """
    guard_output_dir(args.output_dir, overwrite=args.overwrite_output_dir, resume=resumes_in_place(args, resume))


def claim_output_dir(args: RunArguments, resume: str | None) -> None:
    """Lock the folder until the run ends, and clear the run that it replaces (main process only).

    Of an old run only files that runs write are removed; anything else in the folder stays. See
    :func:`holding_output_dir`.

    Raises:
        InputError: another run is writing there.
    """
    if not args.should_save:
        return
    folder = Path(args.output_dir)
    lock_folder(args.output_dir)
    if not args.overwrite_output_dir or resumes_in_place(args, resume):
        return
    for checkpoint in (*folder.glob("checkpoint-*"), *folder.glob(STAGING)):
        shutil.rmtree(checkpoint)
    for part in (folder, *(folder / name for name in PARTS)):
        for name in (*RUN_FILES, RUN_FILE):
            (part / name).unlink(missing_ok=True)
    for part in (folder / name for name in PARTS):
        if part.is_dir() and not any(part.iterdir()):
            part.rmdir()
    for head in folder.glob(f"{HEAD}-*.safetensors"):
        head.unlink()


def holding_output_dir(run: Callable[P, R]) -> Callable[P, R]:
    """For a function that is a whole run: when it ends, the folder it claimed is free again.

    Raises:
        Stopped: interrupted with Ctrl-C after it had claimed the folder; it says with which option it goes on.
    """

    @functools.wraps(run)
    def held(*args: P.args, **options: P.kwargs) -> R:
        before = locked_folders()
        try:
            return run(*args, **options)
        except Stopped:  # it knows what was kept
            raise
        except KeyboardInterrupt:
            claimed = locked_folders() - before
            if not claimed:
                raise
            raise _interrupted(claimed.pop()) from None
        finally:
            unlock_folders(locked_folders() - before)

    return held


def _interrupted(folder: Path) -> Stopped:
    """What an interruption at any moment has left in a run's folder."""
    saved = next(filter(complete_checkpoint, checkpoints_in(str(folder))), None)
    searching = (folder / SEARCH_JOURNAL).is_file() and not (folder / METRICS_FILE).is_file()
    if saved is not None:
        kept = f"{saved} is whole"
    elif searching:
        kept = "the trials that were finished are kept"
    else:
        kept = "nothing was saved; give the command again with --overwrite_output_dir"
    return Stopped(signal.SIGINT, f"interrupted: {kept}", goes_on=saved is not None or searching)


def guard_output_dir(directory: str, *, overwrite: bool, resume: bool | None) -> None:
    """Refuse a folder that holds something, unless the run in it is to be resumed or replaced.

    Args:
        directory: where a run is to write.
        overwrite: whether it replaces a run that lies there.
        resume: whether it goes on with that; None: such runs cannot.

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
    check_can_write(directory, "output_dir")
    if not folder.exists() or all(path.name == LOCK_FILE for path in folder.iterdir()) or resume:
        return
    ours = (folder / RUN_FILE).is_file()
    if overwrite and ours:
        return
    if overwrite:
        raise InputError(f"--output_dir {directory} holds files that no run of ours made: choose another folder")
    if ours:
        going_on = "" if resume is None else "--resume_from_checkpoint true to go on with it, "
        raise InputError(
            f"--output_dir {directory} holds another run: add --overwrite_output_dir to replace it, {going_on}or "
            "choose another folder"
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
