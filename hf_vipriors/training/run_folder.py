"""A run's folder: from which checkpoint it goes on, whether it may write there, and its own while it runs."""

from __future__ import annotations

import functools
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from ..errors import InputError
from ..methods.sskd_head import HEAD
from .arguments import RunArguments
from .checkpoints import STAGING, checkpoints_in, complete_checkpoint, damage, newest_checkpoint
from .output_folder import guard_output_dir, lock_folder, locked_folders, unlock_folders
from .run_files import METRICS_FILE, PARTS, RUN_FILE, RUN_FILES, SEARCH_JOURNAL
from .signals import Stopped

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
