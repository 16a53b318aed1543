"""What the runs of a table can be: the jobs of the scripts, and the evaluation of finished students."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..data.cifair import listed_duplicates
from ..errors import InputError
from ..evaluation.classification import ensemble
from ..evaluation.features import Outputs
from ..evaluation.predictions import write_predictions
from ..evaluation.without_duplicates import WITHOUT, scores
from ..files import write_json
from ..hub.teachers import load_ours
from ..methods import METHODS
from ..options import SEED, check_options, option
from ..run import train
from ..scoring.evaluate import EvaluationArguments, class_order, classify
from ..scoring.scored_images import check_set_apart
from ..search.searching import train_student
from ..training import (
    DataArguments,
    PretrainArguments,
    RunArguments,
    StudentArguments,
    TeacherArguments,
    guard_output_dir,
)
from ..training.load_images import load_images
from ..training.run_files import RUN_FILE, versions


@dataclass
class StudentsArguments:
    """Finished students to be scored together on test, on the data set that the first of them learnt from."""

    students: list[str] = field(
        default_factory=list, metadata={"help": "Folders of students; of several, the mean of their probabilities."}
    )
    ten_crop: bool = option(False, "Average ten crops of each image.")
    batch_size: int = option(128, "Images at once.", low=1)
    output_dir: str = option("outputs/evaluation", "Where metrics.json and the predictions go.")
    overwrite_output_dir: bool = option(False, "Replace what --output_dir holds.")
    seed: int = option(0, "The seed that the students had; nothing here is random.", bounds=SEED)

    def __post_init__(self) -> None:
        if not self.students:
            raise InputError("students must be named: [{run}, ...]")
        check_options(self)

    def to_dict(self) -> dict[str, Any]:
        """As ``TrainingArguments.to_dict``."""
        return asdict(self)


def evaluate_students(data: DataArguments, args: StudentsArguments) -> None:
    """Score students on test, as an ensemble when there are several; figures and predictions go to the output folder.

    Raises:
        InputError: one is no student of ours, or they know other classes than the data set.
    """
    start = time.perf_counter()
    guard_output_dir(args.output_dir, overwrite=args.overwrite_output_dir, resume=None)
    how = EvaluationArguments(model=args.students, ten_crop=args.ten_crop, batch_size=args.batch_size)
    splits = load_images(replace(data, choose_with=None))  # test alone is looked at
    check_set_apart(splits, "test")
    predictions = []
    for name in args.students:
        model = load_ours(name, "model").to(how.device)
        class_order(model, splits.class_names, name)
        predictions.append(classify(model, splits, data, how))
    first, *more = predictions
    mean = Outputs(ensemble([each.values for each in predictions]), first.labels) if more else first
    found = scores(mean, splits.class_names, listed_duplicates(splits.splits["test"], "test"))
    metrics: dict[str, Any] = {name: each.to_dict() for name, each in zip(("test", WITHOUT), found, strict=False)}
    metrics |= {"seconds": time.perf_counter() - start, "test_is_validation": splits.test_is_validation}
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    made = {"command": "evaluate", "data": asdict(data), "arguments": args.to_dict(), "versions": versions()}
    write_json(folder / RUN_FILE, made)
    write_predictions(folder, mean.values, mean.labels)
    write_json(folder / "metrics.json", metrics)


Settings = TeacherArguments | PretrainArguments | StudentArguments | StudentsArguments
# Job -> its arguments and what runs it.
JOBS: dict[str, tuple[type, Callable]] = {
    "train_teacher": (TeacherArguments, train),
    "pretrain_student": (PretrainArguments, train),
    "train_student": (StudentArguments, train_student),
    "evaluate": (StudentsArguments, evaluate_students),
}


def scores_of(settings: Settings) -> tuple[str, ...]:
    """Names of the scores in ``metrics.json`` of such a run."""
    if isinstance(settings, StudentsArguments):
        return ("test", WITHOUT)
    if isinstance(settings, StudentArguments):
        return ("test", WITHOUT, "corrupted") if settings.corruptions else ("test", WITHOUT)
    return METHODS[settings.method].scores


def scale_epochs(settings: RunArguments, length: float) -> None:
    """Multiply the epochs of a run, or its steps where it counts those, and when something happens in it."""
    if settings.max_steps > 0:
        settings.max_steps = max(1, round(settings.max_steps * length))
    settings.num_train_epochs = max(1.0, round(settings.num_train_epochs * length))
    settings.lr_milestones = [epoch * length for epoch in settings.lr_milestones]
    if isinstance(settings, StudentArguments):
        settings.head_epochs = max(1.0, round(settings.head_epochs * length))
        settings.distil_from_epoch *= length
