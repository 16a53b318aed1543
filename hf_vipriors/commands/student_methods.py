"""From arguments to the method that trains a student on labels, and to its first weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..hub.teachers import load_ours
from ..methods import Crd, FitNet, FixMatch, KnowledgeDistillation, Method, OverhaulDistillation, Sskd, Supervised
from ..models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from ..training import StudentArguments
from ..views import ClassificationViews, ConsistencyViews, RotationViews
from . import wiring

logger = logging.getLogger(__name__)
Teacher = VipriorsModel | VipriorsForImageClassification
# What goes on from the teacher's weights where it may; the others are compared with students from scratch.
STARTS_FROM_TEACHER = ("overhaul", "supervised", "fixmatch")


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
        wish = "teacher" if same and args.method in STARTS_FROM_TEACHER else "scratch"
    if wish == "scratch":
        return f"student {config.backbone} starts from scratch"
    if wish == "teacher":
        if teacher is None:
            raise InputError("--student_init teacher needs --teacher DIR")
        student.load_backbone_from(teacher)
        return f"student {config.backbone} starts from the teacher"
    student.load_backbone_from(load_ours(wish, "student_init"))
    return f"student {config.backbone} starts from {wish}"


def check_teacher(teacher: Teacher, name: str, config: VipriorsConfig, args: StudentArguments) -> None:
    """A teacher must take the student's pictures, and know the student's classes where its answers are distilled."""
    wiring.check_rgb(teacher)
    if not args.needs_answers:
        return
    asked = f"--method {args.method}" if args.method in args.need_answers else f"--kd_weight {args.kd_weight:g}"
    if not isinstance(teacher, VipriorsForImageClassification):
        raise InputError(
            f"{asked} distils the teacher's answers, and {name} has no classifier: fine-tune it first "
            "(--method supervised --teacher ...) and give the result"
        )
    if teacher.config.num_labels != config.num_labels:
        raise InputError(
            f"the teacher knows {teacher.config.num_labels} classes, the data set has {config.num_labels}: {asked} "
            "needs one trained on the same classes"
        )
    theirs = [teacher.config.id2label[i] for i in range(teacher.config.num_labels)]
    ours = [config.id2label[i] for i in range(config.num_labels)]
    if theirs != ours and sorted(theirs) == sorted(ours):
        raise InputError(f"the teacher knows the same classes in another order ({', '.join(theirs[:5])}, ...)")
    known = [name for name in theirs if not name.startswith("LABEL_")]
    if known and not set(known) & set(ours):
        raise InputError(
            f"the teacher knows other classes ({', '.join(theirs[:3])}, ...) than the data set "
            f"({', '.join(ours[:3])}, ...): {asked} needs one trained on the same classes"
        )
    if theirs != ours:
        logger.warning("the teacher names its classes otherwise (%s, ...): are they the same?", ", ".join(theirs[:5]))
    smoothing = label_smoothing_of(name)
    if smoothing:
        logger.warning(
            "the teacher was trained with label smoothing %g, which takes from its answers how classes resemble each "
            "other: one trained with --label_smoothing 0 teaches more by them",
            smoothing,
        )


def label_smoothing_of(teacher: str) -> float | None:
    """What a run of ours had, by search or as given; None where the teacher is no such run."""
    try:
        given = wiring.read_json(Path(teacher) / wiring.RUN_FILE)["arguments"]["label_smoothing"]
        found = wiring.read_json(Path(teacher) / "metrics.json").get("search", {})
        return found.get("settings", {}).get("label_smoothing", given)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Weight of each class: inverse to its size, 1 on average over the images."""
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)
    return len(labels) / (classes * counts.float())


def build_method(
    student: VipriorsForImageClassification,
    teacher: Teacher | None,
    head: nn.Module | None,
    args: StudentArguments,
    labels: Tensor,
    more_teachers: Sequence[Teacher] = (),
) -> Method:
    """The method named by ``args``, around ``student``; ``labels`` are those of the labelled training images."""
    if args.method == "sskd":
        return Sskd(
            student,
            teacher,
            head,
            weights=(args.classification_weight, args.kd_weight, args.transfer_weight, args.similarity_weight),
            temperatures=(args.kd_temperature, args.kd_temperature, args.similarity_temperature),
            keep=(args.keep_transfer, args.keep_similarity),
            ema_decay=args.ema_decay,
            layer_decay=args.layer_decay,
        )
    options: dict[str, Any] = {
        "label_smoothing": args.label_smoothing,
        "mixup": args.mixup,
        "cutmix": args.cutmix,
        "ema_decay": args.ema_decay,
    }
    if args.class_weights == "balanced":
        options["class_weights"] = balanced_weights(labels, student.config.num_labels)
    options["layer_decay"] = args.layer_decay
    if args.method == "supervised":
        return Supervised(student, **options)
    if args.method == "fixmatch":
        return FixMatch(student, consistency_weight=args.consistency_weight, confidence=args.confidence, **options)
    options |= {
        "classification_weight": args.classification_weight,
        "kd_weight": args.kd_weight,
        "kd_temperature": args.kd_temperature,
        "batch_statistics": args.teacher_batch_statistics,
        "more_teachers": more_teachers,
    }
    if args.method == "kd":
        return KnowledgeDistillation(student, teacher, **options)
    if args.method == "fitnet":
        return FitNet(student, teacher, hint_weight=args.hint_weight, hint_stage=args.hint_stage, **options)
    if args.method == "crd":
        return contrastive_distillation(student, teacher, args, labels, options)
    return OverhaulDistillation(
        student, teacher, feature_weight=args.feature_weight, start_epoch=args.distil_from_epoch, **options
    )


def contrastive_distillation(
    student: VipriorsForImageClassification,
    teacher: Teacher,
    args: StudentArguments,
    labels: Tensor,
    options: dict[str, Any],
) -> Crd:
    if len(labels.unique()) < 2:
        raise InputError("--method crd draws negatives from other classes, and the training images have one class")
    return Crd(
        student,
        teacher,
        labels=labels,
        contrast_weight=args.contrast_weight,
        embedding_dim=args.contrast_dim,
        negatives=args.negatives,
        temperature=args.contrast_temperature,
        memory_momentum=args.memory_momentum,
        **options,
    )


def student_views(config: VipriorsConfig, args: StudentArguments) -> ClassificationViews:
    kinds = {"sskd": RotationViews, "fixmatch": ConsistencyViews}
    return kinds.get(args.method, ClassificationViews)(
        config.image_size,
        config.image_mean,
        config.image_std,
        crop_scale=args.crop_scale,
        flip=args.flip,
        auto_augment=args.auto_augment,
    )
