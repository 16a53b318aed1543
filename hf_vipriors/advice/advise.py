"""Do I have enough images? Counts, duplicates, leaks, a method with its settings, and how long it will take here.

    python scripts/evaluate.py --advise --data_dir photos
    python scripts/evaluate.py --advise --dataset_name fashion-vipriors --output advice.json
    python scripts/evaluate.py --advise --data_dir photos --compare timm:vit_small_patch14_dinov2.lvd142m

Nothing is trained and no model is needed; a few steps of each recommended run are timed on the images themselves.
``--compare`` measures what published networks do here with no training of theirs.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cli import process
from ..cli.parser import Parser
from ..comparison import HELP, load_networks
from ..data import ImageSplits
from ..data.duplicates import find_duplicates, overlaps
from ..data.survey import ImageSurvey, survey
from ..errors import InputError, check_choice, check_range
from ..files import check_new, write_json
from ..invocation import TRAININGS, as_words, command
from ..machine import best_device
from ..options import option
from ..terminal import Console
from ..training import DataArguments
from ..training.load_images import load_images
from .alternatives import alternatives
from .findings import Advice, Step, class_counts, named_groups
from .page import show
from .rules import Facts, Job, recommendation, steps_per_epoch
from .trial import seconds_per_step

# What is trained on comes first: an image that occurs twice is counted in the split that it spoils.
ORDER = ("train", "unlabelled", "validation", "test")


@dataclass
class AdviceArguments:
    """What --advise may be told beside the data."""

    advise: bool = option(False, "Look at the images and recommend, instead of scoring checkpoints.")
    trial_steps: int = option(20, "Steps of each recommended run that are timed; 0: no times.")
    compare: list[str] = option([], HELP)
    output: str | None = option(None, "Write everything found to this JSON file.")
    device: str | None = option(None, "cpu or cuda, where the runs are timed; None: the accelerator if there is one.")

    def __post_init__(self) -> None:
        if self.trial_steps != 0:
            check_range(self.trial_steps, "trial_steps", 4, 1000)
        if self.output is not None:
            check_new(self.output, "output")
        self.device = self.device or best_device()
        check_choice(self.device, ("cpu", "cuda"), "device")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: there is none here, so nothing can be timed on it; give cpu")


def advise(data: DataArguments, args: AdviceArguments, console: Console) -> Advice:
    """Look at every image once, time the recommended runs, and put it all together.

    Raises:
        InputError: when the data set or a network to compare with cannot be loaded, or a run could not train on it.
    """
    networks = load_networks(args.compare)
    splits = load_images(data)
    if networks and "train" not in splits.splits:
        raise InputError("--compare fits a classifier to labels, and no image here has one: leave it out")
    own = {name: splits.distinct[name] for name in ORDER if name in splits.distinct}
    found = survey(own, data.full_scale)
    if not len(found):
        raise InputError("none of the images can be read: check the data set")
    groups = find_duplicates(found.prints)
    facts = facts_of(found, splits, accelerator=args.device != "cpu")
    advice = recommendation(facts, name_of(data))
    steps = [timed(job, data, splits, facts, args, console) for job in advice.jobs]
    if not facts.per_class and data.dataset_name == "imagefolder":  # of a data set without files no page can be made
        options = {"model": advice.jobs[-1].options["output_dir"], "data_dir": data.data_dir}
        line = f"{command('label-next')} {shlex.join(as_words(options))}"
        steps.append(Step("label the most typical images, on a page", line, None))
    compared = None
    if networks:
        student = next(job for job in reversed(advice.jobs) if job.command == "train_student")
        compared = alternatives(networks, splits, data, student, device=args.device)
        options = {"model": student.options["output_dir"], "compare": args.compare}
        check = command_line("evaluate", options, data, skip_bad=facts.unreadable > 0)
        steps.append(Step("is the student worth its training?", check, None))
    shorter = np.sort(found.sizes.min(axis=1))
    return Advice(
        source=data.data_dir or data.dataset_name,
        counts={name: int((found.split == i).sum()) for i, name in enumerate(found.names)},
        per_class=class_counts(found, splits.class_names),
        shorter_side=(int(shorter[0]), int(np.median(shorter)), int(shorter[-1])),
        aspect=float(np.median(found.sizes.max(axis=1) / found.sizes.min(axis=1))),
        gray=float(found.gray.mean()),
        unreadable=found.unreadable,
        duplicates=overlaps(groups, found.split, found.names),
        groups=named_groups(found, groups, splits.class_names),
        near_duplicates_searched=groups.searched_near,
        test_is_validation=splits.test_is_validation,
        notes=splits.notes,
        recommendation=advice,
        steps=steps,
        compared=compared,
    )


def facts_of(found: ImageSurvey, splits: ImageSplits, *, accelerator: bool) -> Facts:
    counts = class_counts(found, splits.class_names)
    unlabelled = found.names.index("unlabelled") if "unlabelled" in found.names else -1
    return Facts(
        per_class={name: by_split["train"] for name, by_split in counts.items()},
        unlabelled=int((found.split == unlabelled).sum()),
        side=int(np.median(found.sizes.min(axis=1))),
        accelerator=accelerator,
        unreadable=sum(map(len, found.unreadable.values())),
    )


def timed(
    job: Job, data: DataArguments, splits: ImageSplits, facts: Facts, args: AdviceArguments, console: Console
) -> Step:
    """The job as a command, with the time it should take."""
    seconds = None
    if args.trial_steps:
        teacher = job.command == "train_teacher"
        images = facts.labelled + (facts.unlabelled if teacher else 0)
        with console.status(f"timing {args.trial_steps} steps: {job.name}"):
            step = seconds_per_step(job, data, splits, images=images, steps=args.trial_steps, device=args.device)
        batch = job.options["per_device_train_batch_size"]
        seconds = step * steps_per_epoch(images, batch, drop_last=teacher) * job.options["num_train_epochs"]
    line = command_line(TRAININGS[job.command], job.options, data, skip_bad=facts.unreadable > 0)
    return Step(job.name, line, seconds)


def command_line(name: str, options: dict[str, Any], data: DataArguments, *, skip_bad: bool) -> str:
    """The command that runs a job, one of ``invocation.SCRIPTS``, on the data as they were given."""
    given = {
        each.name: getattr(data, each.name)
        for each in fields(data)
        if getattr(data, each.name) != each.default or each.name == "dataset_name"
    }
    if skip_bad:
        given["on_bad_image"] = "skip"
    return f"{command(name)} {shlex.join(as_words(given | options))}"


def name_of(data: DataArguments) -> str:
    """What the output folders are called after: the last part of the folder or data set."""
    path = Path(data.data_dir or data.dataset_name).resolve()
    return path.stem if path.is_file() else path.name


def to_json(advice: Advice) -> dict[str, Any]:
    """Plain values; of the recommendation the commands stand for the jobs."""
    values = asdict(replace(advice, compared=None))
    del values["recommendation"]["jobs"], values["compared"]
    return values | ({"compared": advice.compared.to_dict()} if advice.compared else {})


def main(argv: Sequence[str] | None = None) -> None:
    """``scripts/evaluate.py --advise``; also ``-m hf_vipriors.advice.advise``."""

    def job() -> None:
        data, args = Parser([DataArguments, AdviceArguments], __doc__).parse(argv)
        console = Console()
        advice = advise(data, args, console)
        if args.output is not None:
            Path(args.output).parent.mkdir(parents=True, exist_ok=True)
            write_json(Path(args.output), to_json(advice))
        show(advice, console)
        if args.output is not None:
            console.print(f"\neverything found, in full: {args.output}", soft_wrap=True)

    process.run(job)


if __name__ == "__main__":
    main()
