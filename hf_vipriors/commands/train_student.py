"""Phase 2: train the classifier, distilled from a teacher, fine-tuned from it, or from scratch.

    accelerate launch scripts/train_student.py --teacher outputs/teacher --output_dir outputs/student
    accelerate launch scripts/train_student.py --method supervised --output_dir outputs/baseline

The result is a native checkpoint: `pipeline("image-classification", model=DIR)` and
`timm.create_model("local-dir:DIR", pretrained=True)` load it without this package.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import ImageSplits
from ..errors import InputError
from ..evaluation.classification import score
from ..evaluation.features import probabilities
from ..hub.model_card import CardFacts
from ..hub.native_export import check_exportable, export_native
from ..methods import Method, OverhaulDistillation, Supervised
from ..models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from ..training import DataArguments, StudentArguments, StudentTrainer
from ..views import VIEW_INTERPOLATION, ClassificationViews
from . import cards, cli, wiring

logger = logging.getLogger(__name__)
Teacher = VipriorsModel | VipriorsForImageClassification


@dataclass
class StudentResult:
    """A trained student: the model, the trainer's log, its scores, and its answers on the test split."""

    model: VipriorsForImageClassification
    history: list[dict[str, Any]]
    metrics: dict[str, Any]
    test_probabilities: Tensor
    directory: Path
    facts: CardFacts


def student_config(args: StudentArguments, class_names: list[str], teacher: Teacher | None) -> VipriorsConfig:
    """The student's configuration: what was given, else the teacher's, else a ResNet-18 at 64 pixels."""
    theirs = teacher.config if teacher is not None else None
    same_network = theirs is not None and args.backbone in (None, theirs.backbone)
    backbone_args = args.backbone_args
    if backbone_args is None:
        backbone_args = theirs.backbone_args if same_network else {}
    return VipriorsConfig.for_backbone(
        args.backbone or (theirs.backbone if theirs is not None else "resnet18"),
        image_size=args.image_size or (theirs.image_size if theirs is not None else 64),
        backbone_args=backbone_args,
        class_names=class_names,
        crop_pct=args.crop_pct or (theirs.crop_pct if theirs is not None else 0.875),
        interpolation=VIEW_INTERPOLATION,
    )


def network(config: VipriorsConfig) -> tuple[str, dict[str, Any]]:
    """What makes two backbones the same one."""
    return config.backbone, config.backbone_args or {}


def start_weights(student: VipriorsForImageClassification, teacher: Teacher | None, args: StudentArguments) -> str:
    """Fill the student from where ``student_init`` says; returns the line that says so.

    Raises:
        InputError: when the weights asked for do not exist or do not fit.
    """
    wish, config = args.student_init, student.config
    if wish is None:
        same = teacher is not None and network(teacher.config) == network(config)
        wish = "teacher" if same else "scratch"
    if wish == "scratch":
        return f"student {config.backbone} starts from scratch"
    if wish == "teacher":
        if teacher is None:
            raise InputError("--student_init teacher needs --teacher DIR")
        student.load_backbone_from(teacher)
        return f"student {config.backbone} starts from the teacher"
    student.load_backbone_from(wiring.load_ours(wish, "student_init"))
    return f"student {config.backbone} starts from {wish}"


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Weight of each class: inverse to its size, 1 on average over the images."""
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)
    return len(labels) / (classes * counts.float())


def build_method(
    student: VipriorsForImageClassification, teacher: Teacher | None, args: StudentArguments, labels: Tensor
) -> Method:
    """The method named by ``args``, around ``student``."""
    options: dict[str, Any] = {
        "label_smoothing": args.label_smoothing,
        "mixup": args.mixup,
        "cutmix": args.cutmix,
        "ema_decay": args.ema_decay,
    }
    if args.class_weights == "balanced":
        options["class_weights"] = balanced_weights(labels, student.config.num_labels)
    if args.method == "supervised":
        return Supervised(student, **options)
    return OverhaulDistillation(
        student,
        teacher,
        feature_weight=args.feature_weight,
        start_epoch=args.distil_from_epoch,
        batch_statistics=args.teacher_batch_statistics,
        **options,
    )


def check_teacher(teacher: Teacher, config: VipriorsConfig) -> None:
    """A teacher must take the student's pictures, and know the student's classes if it knows any."""
    wiring.check_rgb(teacher)
    # A teacher with a classifier was trained on some classes: for other classes its features may still do, but a
    # student that merely goes on from it would be one head short.
    if isinstance(teacher, VipriorsForImageClassification) and teacher.config.num_labels != config.num_labels:
        raise InputError(
            f"the teacher knows {teacher.config.num_labels} classes, the data set has {config.num_labels}: "
            "give a phase-1 teacher, or one trained on the same classes"
        )


def train_student(data: DataArguments, args: StudentArguments, splits: ImageSplits | None = None) -> StudentResult:
    """Run phase 2 from data and teacher to a native checkpoint with its card.

    Raises:
        InputError: before anything is written, on whatever cannot work.
    """
    resume = wiring.resume_point(args)
    wiring.check_output_dir(args, resume)
    teacher = wiring.load_ours(args.teacher, "teacher") if args.teacher else None
    splits = splits or wiring.load_data(data)
    if "train" not in splits.splits:
        raise InputError("no labelled train split: a student needs labels (only phase 1 does without)")
    wiring.settle_seed(args)
    config = student_config(args, splits.class_names, teacher)
    student = VipriorsForImageClassification(config)
    wiring.check_rgb(student)
    check_exportable(student)
    if teacher is not None:
        check_teacher(teacher, config)
    logger.info(start_weights(student, teacher, args))
    train, validation = splits.splits["train"], splits.splits["validation"]
    store = wiring.training_store([train], config, data)
    args.fit_batch(len(store))
    wiring.check_alone_in_batch(args, len(store))
    logger.info(args.settle_learning_rate(args.default_base_learning_rate))
    method = build_method(student, teacher, args, store.labels)
    views = ClassificationViews(
        config.image_size,
        config.image_mean,
        config.image_std,
        crop_scale=args.crop_scale,
        flip=args.flip,
        auto_augment=args.auto_augment,
    )
    validation_store = wiring.evaluation_store(validation, config, data, "validation")
    test_store = wiring.evaluation_store(splits.splits["test"], config, data, "test")
    wiring.load_method_state(method, resume)
    wiring.claim_output_dir(args, data, "train_student", resume)
    trainer = StudentTrainer(
        method,
        args,
        train_store=store,
        views=views,
        evaluation_store=validation_store,
        class_names=splits.class_names,
    )
    trainer.train(resume_from_checkpoint=resume)
    seconds = wiring.training_seconds(trainer, resume)
    return finish(method.deployable(), test_store, data, args, splits, trainer, seconds)


def finish(
    student: VipriorsForImageClassification,
    test_store: Any,
    data: DataArguments,
    args: StudentArguments,
    splits: ImageSplits,
    trainer: StudentTrainer,
    seconds: float | None,
) -> StudentResult:
    """Score once on test, export, write the card."""
    answers = probabilities(student, test_store, batch_size=args.per_device_eval_batch_size, device=args.device)
    result = score(answers.values, answers.labels, splits.class_names)
    metrics = {"test": result.to_dict(), "seconds": seconds, "test_is_validation": splits.test_is_validation}
    directory = Path(args.output_dir)
    facts = cards.student_facts(student, data, args, splits, metrics)
    if args.should_save:
        export_native(student, directory, class_names=splits.class_names)
        trainer.state.save_to_json(str(directory / "trainer_state.json"))
        wiring.write_json(directory / "metrics.json", metrics)
        cards.write_card(facts, directory)
        low, high = result.interval
        logger.info(
            "student saved to %s: %s top-1 %.1f %% (95 %% interval %.1f to %.1f)",
            directory,
            "validation" if splits.test_is_validation else "test",
            100 * result.top1,
            100 * low,
            100 * high,
        )
    trainer.accelerator.wait_for_everyone()
    return StudentResult(student, trainer.state.log_history, metrics, answers.values, directory, facts)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``scripts/train_student.py`` and of ``-m hf_vipriors.commands.train_student``."""

    def job() -> None:
        data, args = cli.Parser([DataArguments, StudentArguments], __doc__).parse(argv)
        train_student(data, args)

    cli.run(job)


if __name__ == "__main__":
    main()
