"""Train the classifier on labels: distilled from a teacher, fine-tuned from it, or from scratch.

    accelerate launch scripts/train_student.py --teacher outputs/teacher --output_dir outputs/student
    accelerate launch scripts/train_student.py --method supervised --output_dir outputs/baseline
    accelerate launch scripts/train_student.py --method sskd --teacher outputs/baseline --backbone resnet10t

The result is a native checkpoint: `pipeline("image-classification", model=DIR)` and
`timm.create_model("local-dir:DIR", pretrained=True)` load it without this package (one of a network that only this
package knows, such as cifar_resnet8, needs `import hf_vipriors` first).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data import ImageSplits
from ..errors import InputError
from ..evaluation.classification import score
from ..evaluation.features import probabilities
from ..hub.model_card import CardFacts
from ..hub.native_export import check_exportable, export_native
from ..hub.teachers import load_teacher
from ..models import ExternalForImageClassification, ExternalModel, VipriorsConfig, VipriorsForImageClassification
from ..training import DataArguments, StudentArguments, StudentTrainer
from ..views import VIEW_INTERPOLATION
from . import cards, cli, wiring
from .sskd_head import fit_head, new_head
from .student_methods import Teacher, build_method, check_teacher, start_weights, student_views

logger = logging.getLogger(__name__)


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
    if isinstance(teacher, ExternalModel | ExternalForImageClassification) and args.backbone is None:
        raise InputError(f"--teacher {args.teacher} is no timm network: say which one the student is, with --backbone")
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


def train_student(data: DataArguments, args: StudentArguments, splits: ImageSplits | None = None) -> StudentResult:
    """Run phase 2 from data and teacher to a native checkpoint with its card.

    Raises:
        InputError: before anything is written, on whatever cannot work.
    """
    resume = wiring.resume_point(args)
    wiring.check_output_dir(args, resume)
    teacher = load_teacher(args.teacher, revision=args.teacher_revision) if args.teacher else None
    splits = splits or wiring.load_data(data)
    if "train" not in splits.splits:
        raise InputError("no labelled train split: a student needs labels (only phase 1 does without)")
    wiring.settle_seed(args)
    config = student_config(args, splits.class_names, teacher)
    student = VipriorsForImageClassification(config)
    wiring.check_rgb(student)
    check_exportable(student)
    if teacher is not None:
        check_teacher(teacher, config, args)
    logger.info(start_weights(student, teacher, args))
    train, validation = splits.splits["train"], splits.splits["validation"]
    store = wiring.training_store([train], config, data)
    args.fit_batch(len(store))
    wiring.check_alone_in_batch(args, len(store))
    if args.method == "sskd" and args.per_device_train_batch_size < 2:
        raise InputError("--method sskd compares the images of a batch: give --per_device_train_batch_size 2 or more")
    logger.info(args.settle_learning_rate(args.default_base_learning_rate))
    head = new_head(teacher) if args.method == "sskd" else None
    method = build_method(student, teacher, head, args, store.labels)
    validation_store = wiring.evaluation_store(validation, config, data, "validation")
    test_store = wiring.evaluation_store(splits.splits["test"], config, data, "test")
    wiring.load_method_state(method, resume)
    wiring.claim_output_dir(args, data, "train_student", resume)
    if head is not None:
        fit_head(teacher, head, store, data, args, splits, config.image_size)
        wiring.settle_seed(args)  # a head that was found must lead to the same student as one that was fitted
    trainer = StudentTrainer(
        method,
        args,
        train_store=store,
        views=student_views(config, args),
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
        cards.write_card(facts, directory)
        wiring.write_json(directory / "metrics.json", metrics)
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
