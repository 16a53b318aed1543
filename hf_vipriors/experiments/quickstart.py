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
are: each seed draws others, and intervals are over these choices. So the last row has as many labels on images that
are typical to the teacher, which `label-next` asks for, whatever their classes.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text
from torch import Tensor
from transformers.utils import logging as transformers_logging

from ..cli import process
from ..cli.parser import Parser
from ..data import FASHION_VIPRIORS
from ..errors import InputError
from ..evaluation.predictions import read_predictions
from ..files import read_json, write_json
from ..hub.embedded import FASHION_TEACHER
from ..invocation import as_words, command
from ..logs import quiet
from ..reports.report import Report, rich_table, verdict_lines, write_report
from ..reports.report_text import duration
from ..terminal import Console
from ..training import StudentArguments, TeacherArguments, guard_output_dir
from ..training.cards import score_row, write_card
from ..training.load_images import load_images
from ..training.results import summary
from ..training.run_files import RUN_FILE, versions
from ..training.signals import Stopped
from .progress import Clock
from .quickstart_report import Seed, build_report
from .quickstart_runs import QuickstartArguments, Runs
from .side_by_side import Training, processes_for, train_all

logger = logging.getLogger(__name__)
COMMAND = "quickstart"


class Quickstart:
    """All runs of one invocation, and what comes of them."""

    def __init__(self, args: QuickstartArguments, console: Console):
        self.args, self.console = args, console
        self.runs = Runs(args)
        guard_output_dir(args.output_dir, overwrite=args.overwrite_output_dir, resume=None)
        there = self.runs.folder / RUN_FILE
        if there.is_file() and read_json(there).get("command") != COMMAND:
            raise InputError(
                f"--output_dir {args.output_dir} holds a run that is no quickstart: choose another folder"
            )
        self.data, settings = self.runs.settings(StudentArguments, "baseline", args.seeds[0])
        self.device = settings.device
        self.first = load_images(self.data)
        self.ships_teacher = self.data.dataset_name == FASHION_VIPRIORS

    def seeds(self) -> list[Seed]:
        """Train everything; phase 1 comes first, for some wait for it."""
        seeds = self.args.seeds
        phase_1 = self._training("teacher", seeds[0], "phase 1: learns without labels", {}, kind=TeacherArguments)
        by_seed = {seed: self._of_seed(seed, phase_1) for seed in seeds}
        # The longest first, so that none is left for one process alone.
        weights = self.runs.weights
        names = sorted(weights, key=lambda name: -weights[name])
        students = [found[name] for name in names for found in by_seed.values() if name in found]
        trainings = [phase_1, *students]
        processes = processes_for(len(trainings), self.device, self.args.at_once)
        results = train_all(trainings, processes, self.console, clock=Clock(weights=weights))
        teacher, none = results[phase_1.title], {"long_finetuned": None, "distilled": None, "fixmatch": None}
        return [
            Seed(
                seed,
                teacher=teacher,
                labels=self._test_labels(seed),
                **none | {k: results[v.title] for k, v in found.items()},
            )
            for seed, found in by_seed.items()
        ]

    def _training(
        self,
        name: str,
        seed: int,
        title: str,
        options: dict[str, Any],
        *,
        kind: type = StudentArguments,
        after: tuple[str, ...] = (),
    ) -> Training:
        first = kind is TeacherArguments
        # What each says of its images and settings the first one says for all; warnings are said by each.
        level = logging.INFO if first else logging.WARNING
        return Training(
            title if first else self._title(seed, title),
            (name,),
            self.runs.train,
            (level, kind, name, seed, options),
            told=lambda result: f"{summary(result.metrics)}, {duration(result.metrics['seconds'] or 0.0)}",
            after=after,
        )

    def _title(self, seed: int, title: str) -> str:
        return f"seed {seed}, {title}" if len(self.args.seeds) > 1 else title

    def _of_seed(self, seed: int, phase_1: Training) -> dict[str, Training]:
        """Labels alone, and what starts from this quickstart's phase 1 or from the one that ships."""
        own = str(self.runs.folder_of("teacher", self.args.seeds[0]))
        own_first: tuple[str, ...] = (phase_1.title,)
        source, long, after = own, "phase 1", own_first
        if self.ships_teacher:
            source, long, after = FASHION_TEACHER, "long phase 1 (it ships)", ()

        def student(name: str, title: str, **options: Any) -> Training:
            return self._training(name, seed, title, options | {"teacher": source}, after=after)

        scored = self.first.test_title
        # With more labels those that travel to the images without add nothing.
        finetune = {"method": "supervised", "propagate_labels": self.args.few}
        from_own = finetune | {"teacher": own}
        found = {
            "baseline": self._training("baseline", seed, "labels alone", {"method": "supervised"}),
            "finetuned": self._training("finetuned", seed, "phase 1 + fine-tuning", from_own, after=own_first),
            "linear": Training(
                self._title(seed, f"{long} + linear probe"),
                ("linear",),
                self.runs.linear,
                (seed, source),
                told=lambda scores: f"{scored} top-1 {100 * scores['top1']:.1f} %",
                after=after,
            ),
        }
        if self.ships_teacher:
            found["long_finetuned"] = student("long_finetuned", f"{long} + fine-tuning", **finetune)
        if not self.args.few:  # it gained nothing over fine-tuning wherever both were measured
            found["distilled"] = student("distilled", f"{long} + phase 2", method="overhaul")
        # Fewer images a step are as good where propagation follows: 74.7 against 74.3 in 700 steps, two choices.
        ratio = 1 if self.args.few else 2
        fixmatch = {"method": "fixmatch", "unlabelled_ratio": ratio}
        drawn = "fixmatch" if self.args.few else "student"
        found[drawn] = student(drawn, f"{long} + FixMatch", **fixmatch)
        if self.args.few:  # of many labels there is nothing to choose: all images have one
            title = f"{long} + label-next + FixMatch"
            found["student"] = student("student", title, choose_with=source, **fixmatch)
        return found

    def _test_labels(self, seed: int) -> Tensor:
        """Of the images that all runs are scored on."""
        found = read_predictions(self.runs.folder_of("baseline", seed))
        assert found is not None, "the run has just written them"
        return found.labels

    @staticmethod
    def _complete_card(seed: Seed, report: Report) -> None:
        """The student's card again, now beside the baseline and with what the comparison shows."""
        labels = "same labels" if seed.fixmatch is None else "as many labels, drawn at random"
        beside = [score_row("from scratch", seed.baseline.metrics["test"], "baseline", f"{labels}, same augmentation")]
        tuned = seed.long_finetuned or seed.finetuned
        beside.append(
            score_row("fine-tuned from the same teacher", tuned.metrics["test"], "other", f"labels alone, {labels}")
        )
        if seed.fixmatch is not None:
            beside.append(score_row("FixMatch likewise", seed.fixmatch.metrics["test"], "other", labels))
        facts = seed.student.facts
        facts = replace(facts, scores=[*facts.scores, *beside], verdict=verdict_lines(report))
        write_card(facts, seed.student.directory)

    def run(self) -> None:
        start, folder = time.perf_counter(), self.runs.folder
        if self.args.overwrite_output_dir:
            (folder / RUN_FILE).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        names = ("images_per_class", "dataset", "seeds", "length")
        settings = {"command": COMMAND} | {name: getattr(self.args, name) for name in names}
        write_json(folder / RUN_FILE, settings | {"versions": versions()})
        try:
            seeds = self.seeds()
        except KeyboardInterrupt:
            raise Stopped(
                signal.SIGINT, "interrupted: give the command again with --overwrite_output_dir", goes_on=False
            ) from None
        with quiet(logging.WARNING):
            report = build_report(seeds, self.first, self.data, self.command(), seconds=time.perf_counter() - start)
        paths = write_report(report, folder)
        for one in seeds:
            self._complete_card(one, report)
        self.console.rule(Text("result", style="bold"), align="left")
        self.console.print(rich_table(report))
        self.farewell(paths, time.perf_counter() - start)

    def command(self) -> str:
        """The command that repeats this."""
        args = self.args
        names = ("images_per_class", "dataset", "seeds", "length", "recipes")
        given = {name: getattr(args, name) for name in names} | {"length": f"{args.length:g}"}
        return f"{command(COMMAND)} {shlex.join(as_words(given))}"

    def farewell(self, paths: dict[str, Path], seconds: float) -> None:
        student = self.runs.folder_of("student", self.args.seeds[0])
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
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and int(os.environ.get("RANK", "0")) != 0:
        return False
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
    if several:
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
