"""What was given, and what follows from it: batch, workers, learning rate, queue length, evaluation, in one place.

What a person gave stays as it is. :func:`complete` fills what follows from the method and from other options,
:func:`resolve` also what follows from the data and the number of processes. Both return a copy of the arguments in
which nothing is missing, and where each value came from; nothing asks later whether a value was a default.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, field, fields
from typing import Any

from transformers.trainer_utils import IntervalStrategy

from ..errors import InputError
from ..machine import usable_cores
from ..methods import METHODS
from .arguments import RunArguments

MOST_WORKERS = 8


@dataclass
class Resolved:
    """Arguments in which nothing is missing.

    Attributes:
        args: a copy of what was given, complete.
        sources: option -> where its value came from, of those that were not given.
        filled: option -> its value when it was given or filled; ``args`` are a person's to change.

    Example:
        >>> from hf_vipriors.training import TeacherArguments
        >>> given = TeacherArguments("out", method="simclr", use_cpu=True)
        >>> found = resolve(given, images=100)
        >>> given.per_device_train_batch_size, found.args.per_device_train_batch_size
        (0, 50)
        >>> found.sources["per_device_train_batch_size"]
        'half of the 100 images'
    """

    args: RunArguments
    sources: dict[str, str] = field(default_factory=dict)
    filled: dict[str, Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Copies, as lists are changed in place.
        self.filled = {each.name: copy.deepcopy(vars(self.args)[each.name]) for each in fields(self.args)}

    def fill(self, name: str, value: Any, source: str) -> None:
        setattr(self.args, name, value)
        self.filled[name], self.sources[name] = copy.deepcopy(value), source

    def set_since(self, args: RunArguments) -> dict[str, Any]:
        """Options that ``args``, once as complete as these, have otherwise now: what a person has set since."""
        return {name: vars(args)[name] for name, value in self.filled.items() if vars(args)[name] != value}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Option -> its value and where it came from, for ``run.json``."""
        return {name: {"value": getattr(self.args, name), "from": source} for name, source in self.sources.items()}


def complete(given: RunArguments) -> Resolved:
    """Fill what follows from the method and from other options.

    Args:
        given: as a person gave them; not changed.
    """
    found = Resolved(copy.copy(given))
    for name, default in METHODS[given.method].defaults(given).items():
        found.fill(name, default.value, default.source)
    return found


def resolve(given: RunArguments, *, images: int, streamed: bool = False, evaluates: bool = True) -> Resolved:
    """Fill all that was not given.

    Args:
        given: as a person gave them; not changed.
        images: in the training set.
        streamed: whether they are decoded as they are needed.
        evaluates: whether there are images to validate on.

    Raises:
        InputError: a batch larger than the data set, one without negatives, or a queue that does not fit.
    """
    method = METHODS[given.method]
    found = complete(given)
    _batch(found, images)
    _last_batch(found, images)
    method.check_batch(found.args)
    _workers(found, streamed)
    _learning_rate(found)
    for name, default in method.data_defaults(found.args, images).items():
        found.fill(name, default.value, default.source)
    if not evaluates:
        found.fill("eval_strategy", IntervalStrategy.NO, "nothing to validate on")
    return found


def _batch(found: Resolved, images: int) -> None:
    """The batch, where 0 was given; a given one must be full at least once an epoch."""
    args = found.args
    if args.per_device_train_batch_size == 0:
        found.fill("per_device_train_batch_size", args.default_batch, "the default")
        if args.step_images > images // 2:
            found.fill(
                "per_device_train_batch_size",
                max(2, images // (2 * args.world_size)),
                f"half of the {images} images",
            )
    if args.step_images > images:
        raise InputError(
            f"a batch of {args.step_images} is larger than the data set ({images} images): set "
            f"--per_device_train_batch_size to {max(1, images // (2 * args.world_size))} or less"
        )


def _last_batch(found: Resolved, images: int) -> None:
    """Leave out a last batch of one image: batch norm cannot normalise a single value.

    Several processes never have one: the loader fills their last batch up with the first images of the epoch.
    """
    args = found.args
    if args.world_size == 1 and images % args.step_images == 1 and not args.dataloader_drop_last:
        found.fill("dataloader_drop_last", True, "the last batch of an epoch would hold a single image")


def _workers(found: Resolved, streamed: bool) -> None:
    """None for images in memory; for streamed ones min(cores, 8) / local processes. Their number changes no result.

    They are started again each epoch: persistent ones would draw from torch's random numbers in the first epoch only,
    and what is drawn afterwards would depend on them.
    """
    if found.args.dataloader_num_workers is not None:
        return
    if not streamed:
        found.fill("dataloader_num_workers", 0, "images lie in memory")
        return
    cores = usable_cores()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    workers = max(1, min(cores, MOST_WORKERS) // here)
    found.fill("dataloader_num_workers", workers, f"images are streamed; {cores} cores, {here} processes")


def _learning_rate(found: Resolved) -> None:
    """``base_learning_rate`` x global batch / 256, so that a recipe holds for any number of processes."""
    args = found.args
    if args.learning_rate is not None:
        return
    if args.base_learning_rate is None:
        found.fill("base_learning_rate", args.default_base_learning_rate, f"the default with {args.optim}")
    found.fill(
        "learning_rate",
        args.base_learning_rate * args.global_batch / 256,
        f"{args.base_learning_rate:g} x {args.global_batch} / 256 (global batch: {args.train_batch_size} images x "
        f"{args.world_size} processes x {args.gradient_accumulation_steps} accumulated)",
    )
