"""How long a run takes on this machine: a few steps of it, on the user's own images, timed and thrown away."""

from __future__ import annotations

import logging
import statistics
import tempfile
from dataclasses import replace
from typing import Any

from datasets import concatenate_datasets

from ..cli.parser import Parser
from ..data import ImageSplits, sample
from ..logs import quiet
from ..methods import METHODS
from ..methods.supervised import classifier_config
from ..models import VipriorsForImageClassification
from ..run import build_trainer
from ..training import DataArguments, RunArguments, StudentArguments, TeacherArguments
from ..training.arguments import WITHOUT_TRACES
from ..training.resolve import resolve
from ..training.setup import Setup, set_up
from .rules import Job

ARGUMENTS = {"train_teacher": TeacherArguments, "train_student": StudentArguments}
# Batches of images that a trial decodes: it starts again from the first when it runs out.
_BATCHES = 4


def seconds_per_step(
    job: Job, data: DataArguments, splits: ImageSplits, *, images: int, steps: int = 20, device: str = "cpu"
) -> float:
    """Train ``steps`` steps of a job on some of its images and time them. Nothing stays on disk.

    Args:
        job: what is to be timed; its teacher need not exist yet, a random one of its shape stands in.
        images: all that the job will train on: the queue is as long as in the run itself.
        steps: 4 or more; the first quarter warms up and does not count.

    Returns:
        Seconds of an optimizer step: median over the other quarters, evaluations and checkpoints not included.

    Raises:
        InputError: whatever the job itself would refuse.
    """
    # A trial is no run: what runs say of themselves stays out of the log.
    with tempfile.TemporaryDirectory() as folder, quiet(logging.ERROR):
        options: dict[str, Any] = {
            **{"output_dir": folder, "max_steps": steps, "logging_steps": steps // 4},
            **WITHOUT_TRACES,
            "use_cpu": device == "cpu",
        }
        args = arguments_of(job, **options)
        trainer = build_trainer(trial_setup(args, replace(data, on_bad_image="skip"), splits, images))
        trainer.train()
    speeds = [entry["images_per_second"] for entry in trainer.state.log_history if "images_per_second" in entry]
    return trainer.args.global_batch / statistics.median(speeds[1:])


def student_of(job: Job, class_names: list[str]) -> VipriorsForImageClassification:
    """The network that a job of phase 2 trains, of random weights."""
    return VipriorsForImageClassification(classifier_config(arguments_of(job), class_names, None))


def arguments_of(job: Job, **more: Any) -> RunArguments:
    """What a job is given, and ``more`` in place of it."""
    parser = Parser([ARGUMENTS[job.command]], "")
    (args,) = parser.parse([], parser.checked({**job.options, **more}, job.name))
    return args


def trial_setup(given: RunArguments, data: DataArguments, splits: ImageSplits, images: int) -> Setup:
    """A run on a few batches of its images, with the batch and queue that it has on all of them."""
    kind, found = METHODS[given.method], splits.splits
    teacher = None
    if kind.job == "student":
        given = replace(given, teacher=None)
        if kind.teacher_kind != "start":
            teacher = VipriorsForImageClassification(classifier_config(given, splits.class_names, None))
    count = _BATCHES * resolve(given, images=images).args.step_images
    few = {name: sample(found[name], count) for name in ("train", "unlabelled") if name in found}
    if kind.job != "student":  # labels would be decoded once more, to vote in kNN
        few = {"unlabelled": concatenate_datasets([each.select_columns(["image", "origin"]) for each in few.values()])}
    return set_up(given, data, ImageSplits(few, splits.class_names), teacher=teacher, images=images)
