"""What is refused before a search, or a run with the settings of another one, begins."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data import ImageSplits
from ..errors import InputError, one_line
from ..files import read_json
from ..hub.native_export import check_exportable
from ..hub.teachers import Teacher
from ..logs import quiet
from ..methods import METHODS, card_options, methods_of
from ..methods.supervised import classifier_config
from ..models import VipriorsForImageClassification
from ..training import StudentArguments
from ..training.cards import settings_read
from ..training.resolve import complete, resolve
from ..training.run_files import SEARCH_FILE
from ..training.run_identity import LENGTH
from ..training.setup import check_channels, network_key, to_harmonic
from .same_compute import NETWORK, same_compute
from .space import SearchSpace, tuned_arguments

# What metrics.json repeats of search.json.
SUMMARY = ("trials", "validation_top1", "settings", "seconds")


def read_search(directory: str, flag: str) -> dict[str, Any]:
    """What a finished search wrote.

    Raises:
        InputError: no search was finished there, or its file is damaged.
    """
    file = Path(directory) / SEARCH_FILE
    if not file.is_file():
        raise InputError(f"{flag}: no {SEARCH_FILE} in {directory}: give the folder of a run with --trials")
    found = read_json(file)
    if not isinstance(found, dict) or not set(SUMMARY) <= found.keys() or not isinstance(found["settings"], dict):
        raise InputError(f"{flag}: {file} was not written by a search of ours")
    return found


def checked(given: StudentArguments, settings: dict[str, Any], source: str) -> StudentArguments:
    """``tuned_arguments`` with the source of the settings in its errors."""
    try:
        return tuned_arguments(given, settings)
    except InputError as error:
        raise InputError(f"{source}: {one_line(error, None)}") from None


def check_space(space: SearchSpace, args: StudentArguments, splits: ImageSplits, teacher: Teacher | None) -> None:
    """Refuse a search whose trials could not run, or not be told apart.

    Raises:
        InputError: naming the option.
    """
    source = f"--search_space {args.search_space}"
    if "validation" not in splits.splits:
        raise InputError("--trials chooses on validation, and --validation_share 0 sets none apart: leave one out")
    if splits.test_is_validation:
        raise InputError("--trials chooses on validation, and here validation is the test: set images apart in test/")
    for dimension in space.dimensions:
        for value in dimension.extremes():
            one = checked(args, {dimension.name: value}, source)
            if dimension.name == "per_device_train_batch_size":
                resolve(one, images=len(splits.splits["train"]))
    if set(NETWORK).intersection(space.names):
        check_networks(space, args, splits, teacher, source)
    all_at_once = {dimension.name: dimension.extremes()[-1] for dimension in space.dimensions}
    check_effect(space.names, checked(args, all_at_once, source), source)


def check_networks(
    space: SearchSpace, args: StudentArguments, splits: ImageSplits, teacher: Teacher | None, source: str
) -> None:
    """Refuse to draw networks that cannot be built, or whose start or length would not be alike.

    Raises:
        InputError: naming the option.
    """
    for length in LENGTH:
        if length in space.names:
            raise InputError(f"{source}: how long a trial trains follows from its network: leave {length} out")
    if args.student_init not in (None, "scratch", "teacher"):
        raise InputError(
            f"{source}: --student_init {args.student_init} fits one network: leave it out, or the networks"
        )
    drawn = [dimension for dimension in space.dimensions if dimension.name in (*NETWORK, "image_size")]
    if any(not dimension.choices for dimension in drawn):
        raise InputError(f"{source}: beside networks image_size wants [choices]: not every network takes every size")
    for choices in itertools.product(*(dimension.extremes() for dimension in drawn)):
        chosen = dict(zip((dimension.name for dimension in drawn), choices, strict=True))
        one = checked(args, chosen, source)
        check_start(one, chosen, splits, teacher, source)
        try:
            with quiet(logging.ERROR):  # of each network that only this package knows it would be said that it is
                model = VipriorsForImageClassification(
                    classifier_config(complete(one).args, splits.class_names, teacher)
                )
                check_channels(model)
                to_harmonic(model, one, fresh=True)
                check_exportable(model)
                same_compute(args, one, splits.class_names, teacher)
        except InputError as error:
            raise InputError(f"{source}: {one_line(error, None)}") from None


def check_start(
    args: StudentArguments, settings: dict[str, Any], splits: ImageSplits, teacher: Teacher | None, source: str
) -> None:
    """Refuse a network that was found, or may be, where the run starts from a teacher of another one.

    Without a search such a run starts from scratch and is held near the teacher; here nobody has asked for that.

    Raises:
        InputError: naming the option.
    """
    names = [name for name in NETWORK if name in settings]
    starts = args.student_init == "teacher" or (args.student_init is None and METHODS[args.method].starts_from_teacher)
    if not names or teacher is None or not starts:
        return
    config = classifier_config(complete(args).args, splits.class_names, teacher)
    if network_key(config) != network_key(teacher.config):
        raise InputError(
            f"{source}: the weights of --teacher fit only its own network: leave {' and '.join(names)} out, or add "
            "--student_init scratch"
        )


def check_effect(names: Sequence[str], args: StudentArguments, source: str) -> None:
    """Refuse settings that would change nothing.

    Raises:
        InputError: naming the option.
    """
    of_some_method = {name for method in methods_of("student").values() for name in card_options(method)}
    # Where a weight is drawn, 0 is a choice like others and may have won: it had an effect all the same.
    drawn = {"kd_weight", "kd_temperature"} if "kd_weight" in names else set()
    drawn |= {"unlabelled_ratio", "random_shift"}
    read = drawn.intersection(card_options(METHODS[args.method])).union(settings_read(complete(args).args))
    for name in of_some_method.difference(read).intersection(names):
        raise InputError(f"{source}: {name} has no effect with --method {args.method}: leave it out")
    another_optimizer = args.optim != "sgd" and "optim" not in names
    sgd = args.optim == "sgd" and "optim" not in names
    idle = {
        "num_train_epochs": ("with --max_steps", args.max_steps > 0),
        "lr_scheduler_type": ("with --lr_milestones", bool(args.lr_milestones) and "lr_milestones" not in names),
        **dict.fromkeys(("sgd_momentum", "nesterov"), ("without --optim sgd", another_optimizer)),
        **dict.fromkeys(("adam_beta1", "adam_beta2", "adam_epsilon"), ("with --optim sgd", sgd)),
    }
    for name in names:
        when, without_effect = idle.get(name, ("", False))
        if without_effect:
            raise InputError(f"{source}: {name} has no effect {when}: leave it out")


def check_not_given(given: set[str], args: StudentArguments) -> None:
    """Refuse options on the command line that the search, or the search of another run, would replace.

    Args:
        given: names of the options on the command line.
        args: what they and the recipe came to.

    Raises:
        InputError: naming the option.
    """
    if args.trials:
        names, source = SearchSpace.read(args.search_space).names, f"--search_space {args.search_space}"
    elif args.settings_of:
        names, source = (
            list(read_search(args.settings_of, "--settings_of")["settings"]),
            f"--settings_of {args.settings_of}",
        )
    else:
        return
    if "base_learning_rate" in names or "learning_rate" in names:
        names = [*names, "learning_rate", "base_learning_rate"]
    names = [name for name in names if name not in NETWORK]  # a given network says what the one that is found may cost
    for name in names:
        if name in given:
            raise InputError(f"--{name} is given, and {source} decides it too: leave one of them out")
