"""The quickstart's options, and what each of its runs is: recipe, length, folder, labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cli.parser import Parser
from ..errors import InputError
from ..hub.teachers import load_teacher
from ..logs import quiet
from ..options import SEED, check_options, option
from ..run import RunResult, train
from ..shipped import recipes
from ..training import DataArguments, StudentArguments, TeacherArguments
from ..training.load_images import load_images
from ..training.results import feature_scores
from .side_by_side import AT_ONCE

TEACHER_RECIPE, STUDENT_RECIPE = "quickstart_teacher.yaml", "quickstart_student.yaml"
FEW_RECIPE = "quickstart_few_student.yaml"  # of students with few labels
# Below so many labels a class it matters which images they are: several choices, and a recipe of its own. Four make
# the interval of a gain a third narrower than three do.
FEW, CHOICES = 25, 4
FULL_SEEDS, FULL_LENGTH = 3, 3.0
# Of the recipes' lengths, with few labels. Phase 1 is there to be seen, what is gained rests on the long one. What
# starts from a teacher needs fewer steps than the baseline, which gains two points between 1,200 and 2,400.
FEW_LENGTHS = {"teacher": 0.25, "finetuned": 0.2, "long_finetuned": 0.2, "fixmatch": 0.2, "student": 0.2}

# What each takes in seconds, with few labels and with many: what these are to one another tells how long all will take
# before one of each has ended, and which come first.
SECONDS = {
    "teacher": (92, 300),
    "baseline": (85, 70),
    "finetuned": (23, 80),
    "long_finetuned": (23, 80),
    "linear": (5, 5),
    "distilled": (0, 95),
    "fixmatch": (39, 0),
    "student": (42, 205),
}


@dataclass
class QuickstartArguments:
    """How much of it."""

    output_dir: str = option("outputs/quickstart", "Where the report, the teacher and the students go.")
    overwrite_output_dir: bool = option(False, "Replace the quickstart that --output_dir holds.")
    images_per_class: int = option(
        5, "Labelled images of each class. Fewer than 25: four seeds, each with its own choice of them.", low=1
    )
    dataset: str | None = option(
        None,
        "Other images, as --dataset_name of the trainings: a Hub data set, a .parquet file or folder. Those of its "
        "training images that are not chosen count as unlabelled, and students start from the phase 1 trained here.",
    )
    full: bool = option(False, "Three times as long, and three seeds where one was enough.")
    seeds: list[int] = option(
        [], "Seeds to run, e.g. 0 1 2. Not given: 0 1 2 3 with few labels, 0 1 2 with --full, else 0.", bounds=SEED
    )
    length: float | None = option(
        None, "Multiply the length of all trainings by this; not given: 1, or 3 with --full.", low=0, open_low=True
    )
    at_once: int | None = option(None, AT_ONCE, low=1)
    recipes: str | None = option(None, "Folder of the recipes; not given: those that ship with the package.")

    def __post_init__(self) -> None:
        check_options(self)
        self.seeds = self.seeds or list(range(CHOICES if self.few else FULL_SEEDS if self.full else 1))
        self.length = self.length or (FULL_LENGTH if self.full else 1.0)
        if len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"--seeds {self.seeds} repeats a seed")

    @property
    def few(self) -> bool:
        """Whether there are so few labels that it matters which."""
        return self.images_per_class < FEW


class Runs:
    """The runs of one quickstart, one folder each: of one seed on the same labels but for the last, phase 1 once.

    It travels to other processes: arguments alone.
    """

    def __init__(self, args: QuickstartArguments):
        self.args, self.folder = args, Path(args.output_dir)
        folder = Path(args.recipes) if args.recipes else recipes()
        # Read now: a run that begins in half an hour is still what was asked for.
        self.recipes = {}
        for kind, name in (
            (TeacherArguments, TEACHER_RECIPE),
            (StudentArguments, FEW_RECIPE if args.few else STUDENT_RECIPE),
        ):
            if not (folder / name).is_file():
                raise InputError(f"--recipes {folder}: no {name} there; leave it out to take our own")
            self.recipes[kind] = Parser([DataArguments, kind], "").recipe(folder / name)

    def settings(self, kind: type, name: str, seed: int, **options: Any):
        """Recipe, then what distinguishes this run; the lengths are scaled, never that of one student alone."""
        args = self.args
        parser = Parser([DataArguments, kind], "")
        run = {"output_dir": str(self.folder_of(name, seed)), "overwrite_output_dir": True}
        run |= {"seed": seed, "save_strategy": "no", "images_per_class": args.images_per_class, "subset_seed": seed}
        # Phase 1, once for all seeds, must not learn from images that a seed is scored on.
        run |= {"validation_seed": args.seeds[0]}
        run |= {} if args.dataset is None else {"dataset_name": args.dataset, "unlabelled": "rest"}
        data, settings = parser.parse([], self.recipes[kind] | run | options)
        length = args.length * (FEW_LENGTHS.get(name, 1.0) if args.few else 1.0)
        if settings.max_steps > 0:
            settings.max_steps = max(1, round(settings.max_steps * length))
        else:
            settings.num_train_epochs = max(1.0, round(settings.num_train_epochs * length))
        return data, settings

    @property
    def weights(self) -> dict[str, float]:
        """How long each takes beside the others."""
        return {name: few if self.args.few else many for name, (few, many) in SECONDS.items()}

    def folder_of(self, name: str, seed: int) -> Path:
        """The first seed's runs lie on top, where one looks for them."""
        return self.folder / name if seed == self.args.seeds[0] else self.folder / f"seed{seed}" / name

    def train(self, level: int, kind: type, name: str, seed: int, options: dict[str, Any]) -> RunResult:
        """One training, with the lines of its log from ``level`` on."""
        data, settings = self.settings(kind, name, seed, **options)
        with quiet(logging.WARNING):
            splits = load_images(data)
        if kind is TeacherArguments:
            images = sum(len(splits.splits.get(each, ())) for each in ("train", "unlabelled"))
            if settings.per_device_train_batch_size > images // 2:
                settings.per_device_train_batch_size = 0  # what goes with so few
        with quiet(level):
            return train(data, settings, splits)

    def linear(self, seed: int, source: str) -> dict[str, Any]:
        """Scores of the linear probe of the teacher that students start from, on the labels of this seed."""
        data, settings = self.settings(TeacherArguments, "teacher", seed)
        teacher = load_teacher(source).to(settings.device)
        with quiet(logging.WARNING):
            scores = feature_scores(
                teacher, load_images(data), data, neighbours=settings.knn_neighbours,
                batch_size=settings.per_device_eval_batch_size, device=settings.device,
            )  # fmt: skip
        return scores["linear"]
