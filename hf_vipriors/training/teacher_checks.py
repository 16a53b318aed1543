"""Whether a teacher can teach this student, before anything is trained."""

from __future__ import annotations

import logging
import math
import shlex
from dataclasses import fields
from pathlib import Path

from ..data.columns import class_name, some
from ..errors import InputError
from ..files import read_json
from ..hub.teachers import Teacher
from ..invocation import as_words, command
from ..methods import METHODS
from ..models import VipriorsConfig, VipriorsForImageClassification
from ..shipped import recipes
from ..yaml_files import yaml_mapping
from .arguments import RunArguments
from .data_arguments import DataArguments
from .resolve import complete
from .run_files import METRICS_FILE, read_run

logger = logging.getLogger(__name__)


def check_teacher_given(args: RunArguments) -> None:
    """Refuse a method without the teacher that it needs.

    Raises:
        InputError: naming the method.
    """
    kind = METHODS[args.method]
    if kind.teacher_kind in ("features", "classifier") and args.teacher is None:
        classifies = kind.asks_for_predictions(complete(args).args) is not None
        what = "a classifier" if classifies else "a folder made by phase 1, or timm/NAME"
        raise InputError(f"--method {args.method} needs --teacher ({what})")


def check_teacher_is_trained(name: str, data: DataArguments) -> None:
    """Refuse a folder that is not there yet and that one of our recipes trains a teacher into.

    Args:
        name: as ``teacher`` was given, perhaps by a recipe.
        data: the images, which it is to be trained on.

    Raises:
        InputError: with the command that trains it.
    """
    if Path(name).exists():
        return
    for path in sorted(recipes().glob("*.yaml")):
        recipe = yaml_mapping(path, "--config", "'option: value' lines")
        if recipe.get("output_dir") == Path(name).as_posix():
            # With other labels or another choice of images it would learn from those that are set aside here.
            found = {each.name: getattr(data, each.name) for each in fields(data)}
            given = {each.name: recipe.get(each.name, each.default) for each in fields(data)}
            changed = {n: "null" if value is None else value for n, value in found.items() if value != given[n]}
            changed.pop("choose_with", None)  # phase 1 asks for no labels
            own = not changed.keys() & {"dataset_name", "dataset_config", "data_dir", "labels", "unlabelled"}
            if (
                own
                and data.unlabelled == "rest"
                and (data.images_per_class or math.inf) < (given["images_per_class"] or 0)
            ):
                del changed["images_per_class"]  # of a table, whose teacher leaves the most images out
            options = as_words({"config": path.stem} | changed)
            job = command(METHODS[recipe["method"]].job)
            raise InputError(
                f"no such folder {name} (--teacher): train it first, by `{job} {shlex.join(options)}`, or give the "
                "folder of another one by --teacher"
            )


def check_classifier(teacher: Teacher, name: str, config: VipriorsConfig, asked: str) -> None:
    """A teacher whose predictions are distilled must know the student's classes, in the same order.

    Args:
        teacher: the network.
        name: as it was given, for messages.
        config: of the student.
        asked: the option that asks for its predictions.

    Raises:
        InputError: it has no classifier, or one of other classes.
    """
    if not isinstance(teacher, VipriorsForImageClassification):
        raise InputError(
            f"{asked} distils the teacher's predictions, and {name} has no classifier: fine-tune it first "
            "(--method supervised --teacher ...) and give the result"
        )
    if teacher.config.num_labels != config.num_labels:
        raise InputError(
            f"the teacher knows {teacher.config.num_labels} classes, the data set has {config.num_labels}: {asked} "
            "needs one trained on the same classes"
        )
    theirs = list(map(class_name, teacher.config.class_names))
    ours = list(map(class_name, config.class_names))
    if theirs != ours and sorted(theirs) == sorted(ours):
        raise InputError(f"the teacher knows the same classes in another order ({', '.join(theirs[:5])}, ...)")
    if moved := [name for at, name in enumerate(ours) if name in theirs and theirs.index(name) != at]:
        raise InputError(
            f"the teacher knows {some(moved, 5)} at another place among its classes, and {asked} goes by place: it "
            "needs one trained on the same classes"
        )
    known = [name for name in theirs if not name.startswith("LABEL_")]
    if known and not set(known) & set(ours):
        raise InputError(
            f"the teacher knows other classes ({', '.join(theirs[:3])}, ...) than the data set "
            f"({', '.join(ours[:3])}, ...): {asked} needs one trained on the same classes"
        )
    if theirs != ours:
        logger.warning("the teacher names its classes otherwise (%s, ...): are they the same?", ", ".join(theirs[:5]))
    if smoothing := label_smoothing_of(name):
        logger.warning(
            "the teacher was trained with label smoothing %g, which takes from its predictions how classes resemble "
            "each other: one trained with --label_smoothing 0 teaches more by them",
            smoothing,
        )


def label_smoothing_of(teacher: str) -> float | None:
    """What a run of ours had, by search or as given; None where the teacher is no such run."""
    try:
        given = read_run(Path(teacher)).settings["label_smoothing"]
        found = read_json(Path(teacher) / METRICS_FILE).get("search", {})
        return found.get("settings", {}).get("label_smoothing", given)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
