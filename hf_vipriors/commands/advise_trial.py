"""How long a run takes on this machine: a few steps of it, on the user's own images, timed and thrown away."""

from __future__ import annotations

import logging
import statistics
import tempfile
from dataclasses import replace

import numpy as np
from datasets import Dataset

from ..cli import process
from ..cli.parser import Parser
from ..data import ImageSplits
from ..models import VipriorsForImageClassification, VipriorsModel
from ..training import DataArguments, MethodTrainer, StudentArguments, StudentTrainer, TeacherArguments, TeacherTrainer
from . import wiring
from .advise_rules import Job
from .pretraining import contrastive_method, contrastive_views, network_config
from .student_setup import set_up_student, student_config

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
    with tempfile.TemporaryDirectory() as folder, process.quiet(logging.ERROR):
        options = {
            **job.options,
            **{"output_dir": folder, "max_steps": steps, "logging_steps": steps // 4, "disable_tqdm": True},
            **{"eval_strategy": "no", "save_strategy": "no", "report_to": "none", "use_cpu": device == "cpu"},
        }
        parser = Parser([ARGUMENTS[job.command]], "")
        (args,) = parser.parse([], parser.checked(options, job.name))
        wiring.settle_seed(args)
        build = _teacher_trainer if job.command == "train_teacher" else _student_trainer
        trainer = build(args, replace(data, on_bad_image="skip"), splits, images)
        trainer.train()
    speeds = [entry["images_per_second"] for entry in trainer.state.log_history if "images_per_second" in entry]
    return args.global_batch / statistics.median(speeds[1:])


def _sample(dataset: Dataset, count: int) -> Dataset:
    """At most ``count`` images, evenly spaced: of every class and folder some."""
    return dataset.select(np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)))


def _teacher_trainer(args: TeacherArguments, data: DataArguments, splits: ImageSplits, images: int) -> MethodTrainer:
    model = VipriorsModel(network_config(args, splits.class_names))
    count = _BATCHES * args.step_images
    pool = [_sample(splits.splits[name], count) for name in ("train", "unlabelled") if name in splits.splits]
    store = wiring.training_store(pool, model.config, data)
    args.fit_batch(len(store))
    wiring.fit_workers(args, store)
    method = contrastive_method(args.method, model, args, images)
    return TeacherTrainer(
        method,
        args,
        bank_store=None,
        train_store=store,
        views=contrastive_views(args, model.config),
        evaluation_store=None,
        class_names=splits.class_names,
    )


def _student_trainer(args: StudentArguments, data: DataArguments, splits: ImageSplits, images: int) -> MethodTrainer:
    teacher = None
    if args.method != "supervised":
        teacher = VipriorsForImageClassification(student_config(args, splits.class_names, None))
    sample = _sample(splits.splits["train"], _BATCHES * args.step_images)
    few = ImageSplits({name: sample for name in ("train", "validation", "test")}, splits.class_names)
    return StudentTrainer(**set_up_student(data, args, few, teacher).trainer_options())
