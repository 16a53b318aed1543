"""Checkpoint folders: written whole or not at all, recognised as whole by their checksums, read without pickles."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from ..backbones import is_harmonic
from ..errors import InputError, one_line
from ..files import save_tensors
from ..hub.native_export import export_native
from ..methods import Method
from ..models import VipriorsForImageClassification
from ..models.modeling_vipriors import not_finite

logger = logging.getLogger(__name__)
# The model that is deployed, as ``from_pretrained`` and ``pipeline`` read it, and all else that the method holds
# (queue, momentum encoder, connectors, the other of two peers). Earlier versions kept everything in the first.
MODEL, METHOD_STATE = SAFE_WEIGHTS_NAME, "method.safetensors"
# In the header of METHOD_STATE: what the names in MODEL begin with in the method's own state. It is missing where
# METHOD_STATE holds all of that, since the model is trained in another form (harmonic) than it is deployed in.
PREFIX = "model_prefix"
# A classifier's names begin with this, those of the native checkpoint it becomes do not.
BACKBONE = "backbone."
CHECKSUMS = "checksums.json"
# Inside the output folder, so that a rename moves no byte; hidden, so that nothing takes it for a checkpoint.
STAGING = ".saving"
NEEDED = (MODEL, OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME)


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
    found = checkpoints_in(directory)
    for folder in found:
        wrong = damage(folder)
        if wrong is None:
            if not (folder / CHECKSUMS).is_file():
                logger.info("%s has no checksums (of an earlier version): it is taken as it is", folder)
            return str(folder)
        logger.warning("%s is not whole (%s): it is passed over", folder, wrong)
    why = " (--save_only_model writes none)" if found else ""
    raise InputError(f"nothing to resume: {directory} holds no whole checkpoint-N folder{why}")


def check_is_checkpoint(directory: str) -> None:
    """Refuse a folder that a training cannot go on from.

    Raises:
        InputError: naming the checkpoints that lie in it or beside it.
    """
    if not (Path(directory) / TRAINER_STATE_NAME).is_file():
        near = [*checkpoints_in(directory), *checkpoints_in(str(Path(directory).parent))]
        there = f"give one of {', '.join(map(str, near[:3]))}" if near else "none lies there either"
        raise InputError(f"{directory} is no checkpoint of a training: {there}")


def first_not_finite(folder: Path) -> str | None:
    """Name of the first tensor of a checkpoint's model and method that holds NaN or infinity."""
    for file in (folder / METHOD_STATE, folder / MODEL):
        with safe_open(file, "pt") as tensors:
            if wrong := not_finite((name, tensors.get_tensor(name)) for name in tensors.keys()):
                return wrong[0]
    return None


def deployable_prefix(method: Method) -> str | None:
    """What the names of the deployable model's tensors begin with in the method's state; None where it has none.

    Example:
        >>> from hf_vipriors.methods import SimCLR
        >>> from hf_vipriors.models import VipriorsConfig, VipriorsModel
        >>> config = VipriorsConfig.for_backbone("test_resnet", image_size=32, projector_dim=8)
        >>> deployable_prefix(SimCLR(VipriorsModel(config)))
        'model.'
    """
    model = method.deployable()
    return next((f"{name}." for name, module in method.named_modules() if module is model), None)


def write_method_state(method: Method, state: Mapping[str, Tensor], folder: Path) -> None:
    """Write a method's state as two files: the deployable model, loadable as any checkpoint is, and the rest.

    Args:
        method: whose state it is; its tensors may be sharded.
        state: ``method.state_dict()``, not sharded.
        folder: exists.
    """
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    prefix, model = deployable_prefix(method), method.deployable()
    if harmonic := is_harmonic(model.backbone):
        model = model.plain()
        own = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    else:
        own = {} if prefix is None else {name: state.pop(name) for name in list(state) if name.startswith(prefix)}
        own = {name.removeprefix(prefix or ""): tensor for name, tensor in own.items()}
    if isinstance(model, VipriorsForImageClassification):
        prefix = f"{prefix}{BACKBONE}"
        export_native(model, folder, state={name.removeprefix(BACKBONE): tensor for name, tensor in own.items()})
    else:
        config = copy.deepcopy(model.config)
        config.architectures, config.dtype = [type(model).__name__], "float32"
        config.save_pretrained(folder)  # save_pretrained() of the model would draw a progress bar at each checkpoint
        save_tensors(own, folder / MODEL, {"format": "pt"})
    save_tensors(state, folder / METHOD_STATE, {"format": "pt"} | ({} if harmonic else {PREFIX: prefix or ""}))


def checkpoint_state(checkpoint: Path) -> dict[str, Tensor]:
    """A method's whole state, from the files of a checkpoint of this version or of earlier ones.

    Raises:
        InputError: no checkpoint of ours, or a damaged one.
    """
    if not (checkpoint / MODEL).is_file():
        raise InputError(f"no checkpoint of ours in {checkpoint}: {MODEL} is missing")
    try:
        state = load_file(checkpoint / MODEL)
        if not (checkpoint / METHOD_STATE).is_file():
            return state
        with safe_open(checkpoint / METHOD_STATE, "pt") as file:
            prefix = file.metadata().get(PREFIX)
        own = {} if prefix is None else {f"{prefix}{name}": tensor for name, tensor in state.items()}
        return own | load_file(checkpoint / METHOD_STATE)
    except (SafetensorError, AttributeError) as error:  # a header without metadata
        raise InputError(f"checkpoint {checkpoint} is damaged: {one_line(error, 200)}") from None


def read_method_state(method: nn.Module, checkpoint: str) -> None:
    """Load a checkpoint's tensors. Every one must be there and fit: a queue left at random would pass unnoticed.

    Raises:
        InputError: when the checkpoint is missing, damaged or of another run.
    """
    state = checkpoint_state(Path(checkpoint))
    try:
        method.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"checkpoint {checkpoint} is of another run: {one_line(error, 300)}") from None


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
