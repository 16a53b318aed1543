"""Everything once, on real photographs that ship with the package: is phase 1 + phase 2 worth it?

    accelerate launch scripts/quickstart.py            one seed, about twelve minutes on two cores
    accelerate launch scripts/quickstart.py --full     three seeds, three times as long: mean and interval

500 labelled images of 10 classes and 5,000 without labels (Fashion-VIPriors). A supervised baseline with the
strongest recipe we know at this length (CutMix, mixup, EMA; --full trains three times as long), a self-supervised
teacher (phase 1), fine-tuning it without distillation, and phase 2, all on the same labels, epochs and augmentation;
fine-tuning from the teacher that ships with the package (a long phase 1), and FixMatch from it, which sees the images
without labels too; then a table, a page with images and a student folder that `pipeline()` loads.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text
from transformers.utils import logging as transformers_logging

from ..cli import process
from ..cli.parser import Parser
from ..data import ImageSplits
from ..errors import InputError
from ..evaluation.classification import score
from ..evaluation.features import probabilities
from ..files import write_json
from ..hub.embedded import FASHION_TEACHER
from ..hub.teachers import load_teacher
from ..invocation import command
from ..options import SEED, check_options, option
from ..reports.report import Report, rich_table, verdict_lines, write_report
from ..run import RunResult, train
from ..shipped import recipes
from ..terminal import Console
from ..training import DataArguments, StudentArguments, TeacherArguments, guard_output_dir
from ..training.cards import score_row, write_card
from ..training.load_images import load_images
from ..training.results import feature_scores
from ..training.run_files import RUN_FILE, versions
from ..training.stores import ten_crop_store
from .quickstart_report import Seed, build_report

logger = logging.getLogger(__name__)
TEACHER_RECIPE, STUDENT_RECIPE = "quickstart_teacher.yaml", "quickstart_student.yaml"
FULL_SEEDS, FULL_LENGTH = 3, 3.0


@dataclass
class QuickstartArguments:
    """How much of it."""

    output_dir: str = option("outputs/quickstart", "Where the report, the teacher and the students go.")
    overwrite_output_dir: bool = option(False, "Replace the quickstart that --output_dir holds.")
    full: bool = option(False, "Three seeds and three times the epochs, for mean and interval (an hour on two cores).")
    seeds: list[int] = option([], "Seeds to run, e.g. 0 1 2; not given: 0, or 0 1 2 with --full.", bounds=SEED)
    length: float | None = option(
        None, "Multiply all epochs by this; not given: 1, or 3 with --full.", low=0, open_low=True
    )
    recipes: str | None = option(None, "Folder of the two recipes; not given: those that ship with the package.")

    def __post_init__(self) -> None:
        check_options(self)
        self.seeds = self.seeds or list(range(FULL_SEEDS if self.full else 1))
        self.length = self.length or (FULL_LENGTH if self.full else 1.0)
        if len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"--seeds {self.seeds} repeats a seed")


class Quickstart:
    """The runs of one invocation: same data for all, one folder a run."""

    def __init__(self, args: QuickstartArguments, console: Console):
        self.args, self.console = args, console
        self.folder = Path(args.output_dir)
        folder = Path(args.recipes) if args.recipes else recipes()
        self.recipes = {name: folder / name for name in (TEACHER_RECIPE, STUDENT_RECIPE)}
        for path in self.recipes.values():
            if not path.is_file():
                raise InputError(f"--recipes {folder}: no {path.name} there; leave it out to take our own")
        guard_output_dir(args.output_dir, overwrite=args.overwrite_output_dir, resume=False)
        self.data, self.splits = self._load()

    def _load(self) -> tuple[DataArguments, ImageSplits]:
        data, _ = self._settings(StudentArguments, STUDENT_RECIPE, "baseline", 0, method="supervised")
        return data, load_images(data)

    def _settings(self, kind: type, recipe: str, name: str, seed: int, **options: Any):
        """Recipe, then what distinguishes this run; the epochs are scaled, never those of one run alone."""
        parser = Parser([DataArguments, kind], "")
        run = {"output_dir": str(self.folder_of(name, seed)), "overwrite_output_dir": True}
        run |= {"seed": seed, "save_strategy": "no"}
        data, settings = parser.parse([], parser.recipe(self.recipes[recipe]) | run | options)
        settings.num_train_epochs = max(1.0, round(settings.num_train_epochs * self.args.length))
        return data, settings

    def folder_of(self, name: str, seed: int) -> Path:
        """The first seed's runs lie on top, where one looks for them."""
        return self.folder / name if seed == self.args.seeds[0] else self.folder / f"seed{seed}" / name

    def _student(self, seed: int, name: str, **options: Any) -> RunResult:
        data, settings = self._settings(StudentArguments, STUDENT_RECIPE, name, seed, **options)
        return train(data, settings, self.splits)

    def run_seed(self, seed: int) -> Seed:
        teacher_dir = str(self.folder_of("teacher", seed))
        self._title(seed, 1, "supervised baseline: from scratch, CutMix, mixup, EMA")
        baseline = self._student(seed, "baseline", method="supervised")
        self._title(seed, 2, "phase 1: self-supervised teacher, no labels")
        data, settings = self._settings(TeacherArguments, TEACHER_RECIPE, "teacher", seed)
        teacher = train(data, settings, self.splits)
        self._title(seed, 3, "phase 1 + fine-tuning: the same recipe, started from the teacher")
        finetuned = self._student(seed, "finetuned", method="supervised", teacher=teacher_dir)
        self._title(seed, 4, "phase 1 + phase 2: and held near the teacher's features")
        distilled = self._student(seed, "distilled", method="overhaul", teacher=teacher_dir)
        self._title(seed, 5, "long phase 1 (ships with the package) + fine-tuning")
        long_linear = self._long_linear(settings)
        long_finetuned = self._student(seed, "long_finetuned", method="supervised", teacher=FASHION_TEACHER)
        self._title(seed, 6, "long phase 1 + FixMatch: labels, and one answer for two views of images without")
        semi = {"method": "fixmatch", "unlabelled_ratio": 2, "teacher": FASHION_TEACHER}
        student = self._student(seed, "student", **semi)
        self._title(seed, 7, "ten-crop")
        runs = {"teacher": teacher, "finetuned": finetuned, "distilled": distilled}
        long_runs = {"long_linear": long_linear, "long_finetuned": long_finetuned}
        return self._with_ten_crop(seed, baseline=baseline, student=student, **runs, **long_runs)

    def _long_linear(self, settings: TeacherArguments) -> dict[str, Any]:
        """The linear probe of the teacher that ships with the package."""
        teacher = load_teacher(FASHION_TEACHER).to(settings.device)
        scores = feature_scores(
            teacher, self.splits, self.data, neighbours=settings.knn_neighbours,
            batch_size=settings.per_device_eval_batch_size, device=settings.device,
        )  # fmt: skip
        return scores["linear"]

    def _with_ten_crop(self, seed: int, *, baseline: RunResult, student: RunResult, **runs: Any) -> Seed:
        test = self.splits.splits["test"]
        store = ten_crop_store(test, student.model.config, self.data, "test, ten crops")
        device = next(student.model.parameters()).device
        ten = {
            run: probabilities(run_result.model, store, ten_crop=True, device=device)
            for run, run_result in (("student", student), ("baseline", baseline))
        }
        labels = ten["student"].labels
        names = self.splits.class_names
        return Seed(
            seed=seed,
            baseline=baseline,
            student=student,
            ten_crop=(score(ten["student"].values, labels, names), ten["student"].values),
            baseline_ten_crop=(score(ten["baseline"].values, labels, names), ten["baseline"].values),
            labels=labels,
            **runs,
        )

    @staticmethod
    def _complete_card(seed: Seed, report: Report) -> None:
        """The student's card again, now beside the baseline and with what the comparison shows."""
        row = score_row
        beside = [
            row("ten-crop", seed.ten_crop[0].to_dict(), "model"),
            row("from scratch", seed.baseline.metrics["test"], "baseline", "same labels, epochs, augmentation"),
            row("fine-tuned from the same teacher", seed.long_finetuned.metrics["test"], "other", "labels alone"),
        ]
        facts = seed.student.facts
        facts = replace(facts, scores=[*facts.scores, *beside], verdict=verdict_lines(report))
        write_card(facts, seed.student.directory)

    def _title(self, seed: int, step: int, text: str) -> None:
        which = f"seed {seed}, " if len(self.args.seeds) > 1 else ""
        self.console.rule(Text.assemble((f"{which}{step} of 7", "bold"), f"  {text}"), align="left")

    def run(self) -> None:
        start = time.perf_counter()
        if self.args.overwrite_output_dir:
            (self.folder / RUN_FILE).unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {"command": "quickstart", "seeds": self.args.seeds, "length": self.args.length}
        write_json(self.folder / RUN_FILE, settings | {"versions": versions()})
        seeds = [self.run_seed(seed) for seed in self.args.seeds]
        report = build_report(seeds, self.splits, self.data, self.command(), seconds=time.perf_counter() - start)
        paths = write_report(report, self.folder)
        for one in seeds:
            self._complete_card(one, report)
        self.console.rule(Text("result", style="bold"), align="left")
        self.console.print(rich_table(report))
        self.farewell(paths, time.perf_counter() - start)

    def command(self) -> str:
        """The command that repeats this."""
        seeds = " ".join(map(str, self.args.seeds))
        return f"{command('quickstart')} --seeds {seeds} --length {self.args.length:g}"

    def farewell(self, paths: dict[str, Path], seconds: float) -> None:
        student = self.folder_of("student", self.args.seeds[0])
        self.console.print(
            f"\n{seconds / 60:.1f} minutes. Curves, feature map, neighbours and mistakes: {paths['html']}"
            f"\nThe student is a native checkpoint; it needs nothing of ours:\n\n"
            f"    from transformers import pipeline\n"
            f'    pipeline("image-classification", model="{student}")("image.png")\n\n'
            "What a push to the Hub would send, without sending it:\n\n"
            f"    {command('push')} --model {student} --repo_id me/fashion --dry_run\n",
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
