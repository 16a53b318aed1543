"""What a checkpoint was trained with, written into it; and whether a run that goes on from it is still that run."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME

from ..errors import InputError
from ..files import read_json
from .arguments import RunArguments
from .fingerprint import store_sums, teachers_sum
from .run_identity import LENGTH, influences, may_change
from .setup import Setup

logger = logging.getLogger(__name__)
RECORD_FILE = "training_args.json"
# What is read from the images and the networks, and not by the words of these options.
_OF_NETWORK = ("backbone", "backbone_args", "image_size", "crop_pct")
_OF_TEACHERS = ("teacher", "more_teachers", "teacher_revision")
_BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")
# They change with every resumption, or nobody wants to read of them.
_NOT_TOLD = {"output_dir", "overwrite_output_dir", "resume_from_checkpoint", "run_name", "local_rank", "eval_on_start"}
_MOST_NAMED = 4
_LAST_BATCH, _RATE = "dataloader_drop_last", "learning_rate"


def training_record(setup: Setup) -> dict[str, Any]:
    """The settings of a training, complete, with its classes and short sums of its images and teachers."""
    args, config = setup.args, setup.config
    record = args.to_dict()
    record |= {name: getattr(config, name) for name in _OF_NETWORK if name in record}
    record |= {"global_batch": args.global_batch, "world_size": args.world_size, "data": asdict(setup.data)}
    record |= {"class_names": setup.class_names, "teachers": teachers_sum(setup.method)}
    record["filled"] = sorted(setup.resolved.sources)
    record["images"] = {name: store_sums(store) for name, store in setup.stores.items() if name != "bank"}
    return json.loads(json.dumps(record, default=str))


def read_record(checkpoint: str) -> dict[str, Any]:
    """What :func:`training_record` said when a checkpoint was written; empty of an earlier version."""
    file = Path(checkpoint) / RECORD_FILE
    return read_json(file) if file.is_file() else {}


def check_resumption(setup: Setup, checkpoint: str) -> list[str]:
    """Compare a run with the checkpoint that it is to go on from.

    A run may become longer or shorter, move to other devices or another number of processes, and log, save and
    evaluate as it likes. Whatever else decides its weights stays as it was: the result would be neither the one run
    nor the other, and its card would tell of a training that never was.

    Args:
        setup: of the run. A learning rate that was not given becomes the checkpoint's; so does whether a last batch of
            one image is left out.
        checkpoint: folder, of this version or of an earlier one.

    Returns:
        What changed and may change, in words; also what could not be compared.

    Raises:
        InputError: naming the option, its value in the checkpoint and its value now.
    """
    folder, had = Path(checkpoint), read_record(checkpoint)
    if had.get("time_limit") and setup.args.time_limit is None:  # it would go on as a run of another length
        raise InputError(
            f"{checkpoint} is of a run with --time_limit {had['time_limit']}, which decided its length: give it again"
        )
    if "method" in had and had["method"] != setup.args.to_dict().get("method"):
        _refuse(folder, [_change("method", had, setup.args.to_dict())])
    now = training_record(setup)
    if "images" not in had:  # it holds these options as they were given
        now |= {name: value for name, value in setup.args.to_dict().items() if name in _OF_NETWORK}
    what = "images" if had else "settings and images"
    told = [] if "images" in had else [f"{what} that could not be compared (it is of an earlier version)"]
    other_processes = _processes(had) not in (None, now["world_size"])
    options = [name for name in had.keys() & setup.args.to_dict().keys() if had[name] != now[name]]
    set_since = setup.resolved.set_since(setup.args)
    filled_now = setup.resolved.sources.keys() - set_since.keys()
    # A rate that an earlier resume took over is taken over again; records of before do not tell what was given.
    follows = filled_now if other_processes else filled_now & set(had.get("filled", ())) & {_RATE}
    if had.get("learning_rate") == now["learning_rate"] or "learning_rate" not in setup.resolved.sources:
        options = [name for name in options if name != "base_learning_rate"]  # it decides nothing else
    keeps_last_batch = False
    if _LAST_BATCH in options and (
        _LAST_BATCH in filled_now or (_LAST_BATCH not in set_since and _filled_last_batch(setup, had))
    ):
        # One process cannot train on a single image; otherwise the one image is left out as before, but never more.
        keeps_last_batch = had[_LAST_BATCH] and len(setup.stores["train"]) % setup.args.step_images == 1
        told += [] if keeps_last_batch else [_change(_LAST_BATCH, had, now)]
        options.remove(_LAST_BATCH)
    refused = _other_images(had, now)
    for name in sorted(options, key=lambda option: (option in setup.resolved.sources, option)):
        if name in _OF_TEACHERS and _same_teachers(name, had, now):
            continue
        if name in _BATCH and (had.get("global_batch") == now["global_batch"] or name in follows):
            told.append(_change(name, had, now))
        elif not influences(name) or may_change(name):
            told += [] if name in _NOT_TOLD else [_change(name, had, now)]
        elif name not in follows and not (refused and name in setup.resolved.sources):
            refused.append(_change(name, had, now))
    if had.get("teachers", now["teachers"]) != now["teachers"] and not any("teacher" in each for each in refused):
        refused.append(f"the weights of --teacher {now.get('teacher')} are others")
    if refused:
        _refuse(folder, refused)
    if keeps_last_batch:
        setup.resolved.fill(_LAST_BATCH, True, f"that of {checkpoint}")
    _check_length(setup, folder, had, now)
    if _RATE in follows and had.get(_RATE, now[_RATE]) != now[_RATE]:
        setup.resolved.fill(_RATE, had[_RATE], f"that of {checkpoint}")
    if other_processes and had["global_batch"] != now["global_batch"]:
        kept = had["global_batch"] / (now["world_size"] * now["gradient_accumulation_steps"])
        told.append(
            f"steps of {now['global_batch']} images in place of {had['global_batch']}, while their count and learning "
            f"rate go on (--per_device_train_batch_size {kept:g} would keep them as they were)"
        )
    return told + _other_evaluation(had, now)


def _filled_last_batch(setup: Setup, had: dict[str, Any]) -> bool:
    """Whether nobody asked for it that a checkpoint's run left out the last batch: it would have held one image."""
    if not had[_LAST_BATCH]:
        return False
    if "filled" in had:
        return _LAST_BATCH in had["filled"]
    count = had.get("images", {}).get("train", {}).get("count", len(setup.stores["train"]))
    return _processes(had) == 1 and count % had["per_device_train_batch_size"] == 1


def _change(name: str, had: dict[str, Any], now: dict[str, Any]) -> str:
    return f"--{name} {_shown(had[name])} -> {_shown(now[name])}"


def _shown(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _refuse(checkpoint: Path, changes: list[str]) -> None:
    more = f" and {len(changes) - _MOST_NAMED} more" if len(changes) > _MOST_NAMED else ""
    raise InputError(
        f"{checkpoint} is of another run: {', '.join(changes[:_MOST_NAMED])}{more}; give what it had, name a "
        "checkpoint of this run, or start anew with --overwrite_output_dir in place of --resume_from_checkpoint"
    )


def _processes(had: dict[str, Any]) -> int | None:
    """How many processes wrote a checkpoint, where it says so."""
    if "world_size" in had or not {"global_batch", *_BATCH} <= had.keys():
        return had.get("world_size")
    return had["global_batch"] // max(1, math.prod(had[name] for name in _BATCH))


def _same_teachers(name: str, had: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether the teachers that are learnt from have the weights that they had, wherever they lie.

    One that only gave its weights to start from is known by its path alone.
    """
    if had.get("teachers") is not None:
        return had["teachers"] == now["teachers"]
    both = [each if isinstance(each, str) else "" for each in (had[name], now[name])]
    return all(both) and Path(both[0]).resolve() == Path(both[1]).resolve()


def _other_images(had: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In what classes and training images differ, by the options that chose them where these differ too."""
    if "images" not in had:
        return []
    found = []
    if had["class_names"] != now["class_names"]:
        found.append(f"classes {_shown(', '.join(had['class_names']))} -> {_shown(', '.join(now['class_names']))}")
    before, after = had["images"].get("train", {}), now["images"]["train"]
    if before["count"] != after["count"]:
        found.append(f"{before['count']} training images -> {after['count']}")
    elif before["labels"] != after["labels"]:
        found.append("the training images have other labels")
    elif before["streamed"] == after["streamed"] and before["content"] != after["content"]:
        found.append("the training images are others")
    if not found:
        return []
    options = [name for name in had["data"] if name in now["data"] and had["data"][name] != now["data"][name]]
    chosen_by = [name for name in options if influences(name) and name != "memory_share"]
    return [_change(name, had["data"], now["data"]) for name in chosen_by] + found


def _other_evaluation(had: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Images that are measured on and not trained on may be others: what was measured before is not comparable."""
    known, found = had.get("images"), []
    for name in sorted({"validation", "test"} if known else ()):
        before, after = known.get(name), now["images"].get(name)
        counts = [0 if each is None else each["count"] for each in (before, after)]
        if counts[0] != counts[1]:
            found.append(f"{name} images {counts[0]} -> {counts[1]}")
        elif before and after and before["labels"] != after["labels"]:
            found.append(f"other {name} images")
    return found


def total_steps(args: RunArguments, images: int) -> int:
    """Optimizer steps of a whole run, as the Trainer counts them."""
    return args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * args.steps_per_epoch(images))


def _check_length(setup: Setup, checkpoint: Path, had: dict[str, Any], now: dict[str, Any]) -> None:
    changes = [_change(name, had, now) for name in LENGTH if name in had and had[name] != now[name]]
    step = read_json(checkpoint / TRAINER_STATE_NAME)["global_step"]
    steps = total_steps(setup.args, len(setup.stores["train"]))
    if changes and steps < step:
        _refuse(checkpoint, [*changes, f"a run of {steps} steps cannot go on from step {step}"])
