"""Everything once, on real images that ship with the package: what do images without labels add to a few labels?

    accelerate launch scripts/quickstart.py                          5 labels a class, four choices of them
    accelerate launch scripts/quickstart.py --images_per_class 50    50 labels a class
    accelerate launch scripts/quickstart.py --dataset timm/eurosat-rgb
    accelerate launch scripts/quickstart.py --full                   three times as long

10 classes, 5,000 images without labels, 2,000 to test on (Fashion-VIPriors). A supervised baseline with the strongest
recipe we know at this length; a self-supervised teacher (phase 1), fine-tuned; then the same from the teacher that
ships with the package (a long phase 1): a linear probe, fine-tuning, FixMatch, which sees the images without labels
again, and with 50 labels a class phase 2, held near the teacher's features; a table, a page with images, and a student
folder that `pipeline()` loads. With few labels those trainings end with label propagation; and it matters which they
are: each seed chooses others, and intervals are over these choices.
"""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.text import Text
from transformers.utils import logging as transformers_logging

from ..cli import process
from ..cli.parser import Parser
from ..data import FASHION_VIPRIORS, ImageSplits
from ..data.columns import label_array
from ..errors import InputError
from ..files import write_json
from ..hub.embedded import FASHION_TEACHER
from ..hub.teachers import load_teacher
from ..invocation import command
from ..logs import quiet
from ..options import SEED, check_options, option
from ..reports.report import Report, rich_table, verdict_lines, write_report
from ..reports.report_text import duration
from ..run import RunResult, train
from ..shipped import recipes
from ..terminal import Console
from ..training import DataArguments, RunArguments, StudentArguments, TeacherArguments, guard_output_dir
from ..training.cards import score_row, write_card
from ..training.load_images import load_images
from ..training.results import feature_scores, summary
from ..training.run_files import RUN_FILE, versions
from .quickstart_report import Seed, build_report

logger = logging.getLogger(__name__)
TEACHER_RECIPE, STUDENT_RECIPE = "quickstart_teacher.yaml", "quickstart_student.yaml"
FEW_RECIPE = "quickstart_few_student.yaml"  # of students with few labels
# Below so many labels a class it matters which images they are: several choices, and a recipe of its own. Four make
# the interval of a gain a third narrower than three do.
FEW, CHOICES = 25, 4
FULL_SEEDS, FULL_LENGTH = 3, 3.0
# Of the recipes' lengths, with few labels. Phase 1 is there to be seen, what is gained rests on the long one. What
# starts from a teacher needs fewer steps than the baseline, and one of FixMatch sees twice the images.
FEW_LENGTHS = {"teacher": 0.375, "finetuned": 1 / 3, "long_finetuned": 1 / 3, "student": 7 / 12}


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
    full: bool = option(False, "Three seeds, and three times as long.")
    seeds: list[int] = option(
        [], "Seeds to run, e.g. 0 1 2. Not given: 0 1 2 3 with few labels, 0 1 2 with --full, else 0.", bounds=SEED
    )
    length: float | None = option(
        None, "Multiply the length of all trainings by this; not given: 1, or 3 with --full.", low=0, open_low=True
    )
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


class Quickstart:
    """The runs of one invocation, one folder each: of one seed all on the same labels, phase 1 once for all seeds."""

    def __init__(self, args: QuickstartArguments, console: Console):
        self.args, self.console = args, console
        self.folder = Path(args.output_dir)
        folder = Path(args.recipes) if args.recipes else recipes()
        self.student_recipe = folder / (FEW_RECIPE if args.few else STUDENT_RECIPE)
        self.teacher_recipe = folder / TEACHER_RECIPE
        for path in (self.teacher_recipe, self.student_recipe):
            if not path.is_file():
                raise InputError(f"--recipes {folder}: no {path.name} there; leave it out to take our own")
        guard_output_dir(args.output_dir, overwrite=args.overwrite_output_dir, resume=False)
        data = {seed: self._settings(StudentArguments, "baseline", seed)[0] for seed in args.seeds}
        self.splits: dict[int, ImageSplits] = {}
        for seed, each in data.items():
            with quiet(logging.WARNING if self.splits else logging.INFO):
                self.splits[seed] = load_images(each)
        self.data = data[args.seeds[0]]
        self.ships_teacher = self.data.dataset_name == FASHION_VIPRIORS
        each_seed = 3 + self.ships_teacher + (not args.few)  # baseline, fine-tuning, FixMatch and perhaps two more
        self.begun, self.trainings = 0, 1 + each_seed * len(args.seeds)

    def _settings(self, kind: type, name: str, seed: int, **options: Any):
        """Recipe, then what distinguishes this run; the lengths are scaled, never that of one student alone."""
        args, teaches = self.args, kind is TeacherArguments
        parser = Parser([DataArguments, kind], "")
        run = {"output_dir": str(self.folder_of(name, seed)), "overwrite_output_dir": True}
        run |= {"seed": seed, "save_strategy": "no", "images_per_class": args.images_per_class, "subset_seed": seed}
        run |= {} if args.dataset is None else {"dataset_name": args.dataset, "unlabelled": "rest"}
        recipe = parser.recipe(self.teacher_recipe if teaches else self.student_recipe)
        data, settings = parser.parse([], recipe | run | options)
        length = args.length * (FEW_LENGTHS.get(name, 1.0) if args.few else 1.0)
        if settings.max_steps > 0:
            settings.max_steps = max(1, round(settings.max_steps * length))
        else:
            settings.num_train_epochs = max(1.0, round(settings.num_train_epochs * length))
        return data, settings

    def folder_of(self, name: str, seed: int) -> Path:
        """The first seed's runs lie on top, where one looks for them."""
        return self.folder / name if seed == self.args.seeds[0] else self.folder / f"seed{seed}" / name

    def run_seed(self, seed: int, teacher: RunResult | None) -> Seed:
        """Every run on the labels of one seed; ``teacher``: phase 1 of an earlier seed, it needs no labels."""
        self._title(seed, "labels alone: from scratch, our strongest recipe")
        baseline = self._student(seed, "baseline", method="supervised")
        if teacher is None:
            self._title(seed, "phase 1: a teacher learns without labels")
            data, settings = self._settings(TeacherArguments, "teacher", seed)
            images = sum(len(self.splits[seed].splits.get(name, ())) for name in ("train", "unlabelled"))
            if settings.per_device_train_batch_size > images // 2:
                settings.per_device_train_batch_size = 0  # what goes with so few
            teacher = self._train(data, settings, seed)
        own = str(teacher.directory)
        self._title(seed, "phase 1 + fine-tuning: started from that teacher")
        # With more labels those that travel to the images without add nothing.
        finetune = {"method": "supervised", "propagate_labels": self.args.few}
        finetuned = self._student(seed, "finetuned", **finetune, teacher=own)
        source = FASHION_TEACHER if self.ships_teacher else own
        long = "long phase 1 (it ships)" if self.ships_teacher else "phase 1"
        linear = self._linear(seed, source)
        long_finetuned = None
        if self.ships_teacher:
            self._title(seed, f"{long} + fine-tuning")
            long_finetuned = self._student(seed, "long_finetuned", **finetune, teacher=source)
        distilled = None
        if not self.args.few:  # it gained nothing over fine-tuning wherever both were measured
            self._title(seed, f"{long} + phase 2: held near the teacher's features")
            distilled = self._student(seed, "distilled", method="overhaul", teacher=source)
        self._title(seed, f"{long} + FixMatch, on all images")
        # Fewer images a step are as good where propagation follows: 74.7 against 74.3, two choices of the labels.
        ratio = 1 if self.args.few else 2
        student = self._student(seed, "student", method="fixmatch", unlabelled_ratio=ratio, teacher=source)
        return Seed(
            seed=seed,
            baseline=baseline,
            teacher=teacher,
            finetuned=finetuned,
            linear=linear,
            long_finetuned=long_finetuned,
            distilled=distilled,
            student=student,
            labels=torch.from_numpy(label_array(self.splits[seed].splits["test"])),
        )

    def _student(self, seed: int, name: str, **options: Any) -> RunResult:
        data, settings = self._settings(StudentArguments, name, seed, **options)
        return self._train(data, settings, seed)

    def _train(self, data: DataArguments, settings: RunArguments, seed: int) -> RunResult:
        # What each says of its images and settings the first one says for all; warnings are said by each.
        with quiet(logging.WARNING if self.begun > 1 else logging.INFO):
            result = train(data, settings, self.splits[seed])
        self.console.print(f"{summary(result.metrics)}, {duration(result.metrics['seconds'] or 0.0)}")
        return result

    def _linear(self, seed: int, source: str) -> dict[str, Any]:
        """The linear probe of the teacher that students start from, on the labels of this seed."""
        data, settings = self._settings(TeacherArguments, "teacher", seed)
        teacher = load_teacher(source).to(settings.device)
        with quiet(logging.WARNING):
            scores = feature_scores(
                teacher, self.splits[seed], data, neighbours=settings.knn_neighbours,
                batch_size=settings.per_device_eval_batch_size, device=settings.device,
            )  # fmt: skip
        return scores["linear"]

    @staticmethod
    def _complete_card(seed: Seed, report: Report) -> None:
        """The student's card again, now beside the baseline and with what the comparison shows."""
        beside = [score_row("from scratch", seed.baseline.metrics["test"], "baseline", "same labels and augmentation")]
        tuned = seed.long_finetuned or seed.finetuned
        beside.append(score_row("fine-tuned from the same teacher", tuned.metrics["test"], "other", "labels alone"))
        facts = seed.student.facts
        facts = replace(facts, scores=[*facts.scores, *beside], verdict=verdict_lines(report))
        write_card(facts, seed.student.directory)

    def _title(self, seed: int, text: str) -> None:
        """Before each training: how many there are, and which this is."""
        self.begun += 1
        which = f", seed {seed}" if len(self.args.seeds) > 1 else ""
        title = Text.assemble((f"{self.begun} of {self.trainings}{which}", "bold"), f"  {text}")
        self.console.rule(title, align="left")

    def run(self) -> None:
        start = time.perf_counter()
        if self.args.overwrite_output_dir:
            (self.folder / RUN_FILE).unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        names = ("images_per_class", "dataset", "seeds", "length")
        settings = {"command": "quickstart"} | {name: getattr(self.args, name) for name in names}
        write_json(self.folder / RUN_FILE, settings | {"versions": versions()})
        seeds: list[Seed] = []
        for seed in self.args.seeds:
            seeds.append(self.run_seed(seed, seeds[0].teacher if seeds else None))
        first = self.splits[self.args.seeds[0]]
        with quiet(logging.WARNING):
            report = build_report(seeds, first, self.data, self.command(), seconds=time.perf_counter() - start)
        paths = write_report(report, self.folder)
        for one in seeds:
            self._complete_card(one, report)
        self.console.rule(Text("result", style="bold"), align="left")
        self.console.print(rich_table(report))
        self.farewell(paths, time.perf_counter() - start)

    def command(self) -> str:
        """The command that repeats this."""
        args = self.args
        dataset = "" if args.dataset is None else f" --dataset {shlex.quote(args.dataset)}"
        seeds = " ".join(map(str, args.seeds))
        images = f"--images_per_class {args.images_per_class}"
        return f"{command('quickstart')} {images}{dataset} --seeds {seeds} --length {args.length:g}"

    def farewell(self, paths: dict[str, Path], seconds: float) -> None:
        student = self.folder_of("student", self.args.seeds[0])
        repository = "fashion" if self.ships_teacher else "photos"
        self.console.print(
            f"\n{seconds / 60:.1f} minutes. Curves, feature map, neighbours and mistakes: {paths['html']}"
            f"\nThe student is a native checkpoint; it needs nothing of ours:\n\n"
            f"    from transformers import pipeline\n"
            f'    pipeline("image-classification", model="{student}")("image.png")\n\n'
            "What a push to the Hub would send, without sending it:\n\n"
            f"    {command('push')} --model {student} --repo_id me/{repository} --dry_run\n",
            soft_wrap=True,  # lines to be copied stay whole
        )


def single_device() -> bool:
    """The quickstart is one small run: of several launched processes the first does it, on one device.

    Returns:
        False in the processes that have nothing to do.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if int(os.environ.get("RANK", "0")) != 0:
            return False
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)
        logger.info("the quickstart runs on one device; the other processes rest")
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = "0"
    return True


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``scripts/quickstart.py`` and of ``-m hf_vipriors.experiments.quickstart``."""

    def job() -> None:
        (args,) = Parser([QuickstartArguments], __doc__).parse(argv)
        if not single_device():
            return
        np.random.seed(args.seeds[0])
        transformers_logging.disable_progress_bar()
        Quickstart(args, Console()).run()

    process.run(job)


if __name__ == "__main__":
    main()
