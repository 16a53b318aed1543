"""Checkpoint folders: written whole or not at all, recognised as whole by their checksums, read without pickles."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..errors import InputError

logger = logging.getLogger(__name__)
METHOD_STATE = "model.safetensors"
CHECKSUMS = "checksums.json"
# Inside the output folder, so that a rename moves no byte; hidden, so that nothing takes it for a checkpoint.
STAGING = ".saving"
NEEDED = (METHOD_STATE, OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME)


def seal(staged: Path, final: Path) -> None:
    """Make a staged checkpoint the one at ``final``: everything is on the disk, checksums last, before the rename.

    A kill at any moment leaves the whole new checkpoint at ``final``, or what was there before.

    Args:
        staged: folder with all of its files, on the file system of ``final``; its parent is removed.
        final: where it goes; a checkpoint that lies there is replaced.
    """
    sums = {}
    for file in sorted(path for path in staged.rglob("*") if path.is_file()):
        sums[file.relative_to(staged).as_posix()] = _digest(file)
        _to_disk(file)
    (staged / CHECKSUMS).write_text(json.dumps({"sha256": sums}, indent=2) + "\n", encoding="utf-8")
    _to_disk(staged / CHECKSUMS)
    _to_disk(staged)
    if final.exists():
        final.rename(staged.with_name("replaced"))
    staged.rename(final)
    _to_disk(final.parent)
    shutil.rmtree(staged.parent)


def damage(folder: Path) -> str | None:
    """What keeps an exact resumption from starting there, in words, or None.

    Every file is compared with its checksum. Checkpoints written before there were checksums have only to be complete.
    """
    for name in NEEDED:
        if not (folder / name).is_file():
            return f"{name} is missing"
    if not any(folder.glob("rng_state*.pth")):
        return "rng_state.pth is missing"
    if not (folder / CHECKSUMS).is_file():
        return None
    try:
        sums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))["sha256"]
        if not set(NEEDED) <= sums.keys():
            return f"{CHECKSUMS} is damaged"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{CHECKSUMS} is damaged"
    for name, expected in sums.items():
        try:
            if _digest(folder / name) != expected:
                return f"{name} is damaged: its checksum differs"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def complete_checkpoint(folder: Path) -> bool:
    """Whether all that an exact resumption needs lies there, undamaged."""
    return damage(folder) is None


def checkpoint_step(folder: Path) -> int:
    return int(folder.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-"))


def checkpoints_in(directory: str) -> list[Path]:
    """The checkpoint folders of a run, the newest first."""
    found = Path(directory).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    folders = [path for path in found if path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-").isdigit()]
    return sorted(folders, key=checkpoint_step, reverse=True)


def newest_checkpoint(directory: str) -> str:
    """The newest whole checkpoint of a run; those that are passed over are said.

    Raises:
        InputError: there is none.
    """
    for folder in checkpoints_in(directory):
        wrong = damage(folder)
        if wrong is None:
            if not (folder / CHECKSUMS).is_file():
                logger.info("%s has no checksums (of an earlier version): it is taken as it is", folder)
            return str(folder)
        logger.warning("%s is not whole (%s): the one before it is used", folder, wrong)
    raise InputError(f"nothing to resume: {directory} holds no whole checkpoint-N folder")


def first_not_finite(file: Path) -> str | None:
    """Name of the first tensor in a safetensors file that holds NaN or infinity."""
    with safe_open(file, "pt") as tensors:
        for name in tensors.keys():
            tensor = tensors.get_tensor(name)
            if tensor.is_floating_point() and not tensor.isfinite().all():
                return name
    return None


def read_method_state(method: nn.Module, checkpoint: str) -> None:
    """Load a checkpoint's tensors. Every one must be there and fit: a queue left at random would pass unnoticed.

    Raises:
        InputError: when the checkpoint is missing, damaged or of another run.
    """
    file = Path(checkpoint) / METHOD_STATE
    if not file.is_file():
        raise InputError(f"no checkpoint of ours in {checkpoint}: {METHOD_STATE} is missing")
    try:
        method.load_state_dict(load_file(file))
    except SafetensorError as error:
        raise InputError(f"checkpoint {checkpoint} is damaged: {' '.join(str(error).split())[:200]}") from None
    except RuntimeError as error:
        raise InputError(f"checkpoint {checkpoint} is of another run: {' '.join(str(error).split())[:300]}") from None


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows opens no folders; NTFS keeps a journal of renames
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
