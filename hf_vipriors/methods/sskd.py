"""SSKD: rotated images and a self-supervision head make the teacher tell more than its predictions.

References:
    [0] Knowledge Distillation Meets Self-Supervision, https://arxiv.org/abs/2006.07114
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..backbones import feature_dim
from ..errors import InputError
from ..losses import sskd
from ..models import VipriorsForImageClassification
from ..options import LEARNING_RATE, TEMPERATURE, Default, option
from ..papers import Paper
from ..views import RotationViews
from .base import Material, Method, MethodOutput, labelled_first
from .frozen_teacher import FrozenTeacher, pooled_and_logits
from .options import ClassifierOptions, DistillationOptions, not_given
from .sskd_head import fit_head
from .supervised import Supervised

SSKD = Paper(
    "Knowledge Distillation Meets Self-Supervision",
    "https://arxiv.org/abs/2006.07114",
    "Guodong Xu and Ziwei Liu and Xiaoxiao Li and Chen Change Loy",
    2020,
)


def self_supervision_head(width: int) -> nn.Sequential:
    """Linear - ReLU - Linear, as wide as the features [0]."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


class SskdPretext(Method):
    """Stage 1: the self-supervision head learns, on the frozen teacher, which image a rotated one was made from.

    Args:
        teacher: a classifier, frozen here in eval mode; images arrive with its own normalisation.
        head: trained in place.
    """

    def __init__(self, teacher: VipriorsForImageClassification, head: nn.Module):
        super().__init__()
        self.teacher = FrozenTeacher(teacher, teacher.config.image_mean, teacher.config.image_std)
        self.head = head.requires_grad_(True).train()

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        projection = self.head(self.teacher.embedding(views[0]))
        loss = sskd.pretext(projection)
        return MethodOutput(loss=loss, parts={"pretext": loss.detach()})

    def deployable(self) -> VipriorsForImageClassification:
        return self.teacher.model


@dataclass
class SskdOwnOptions:
    """Of the rotated images, and of the teacher's head."""

    transfer_weight: float = option(2.7, "sskd: weight of the predictions on rotated images [2006.07114].", low=0)
    similarity_weight: float = option(10.0, "sskd: weight of the similarities [2006.07114].", low=0)
    similarity_temperature: float = option(0.5, "sskd: T of the similarities [2006.07114].", bounds=TEMPERATURE)
    keep_transfer: float = option(
        1.0, "sskd: share of wrong predictions that is transferred [2006.07114].", low=0, high=1
    )
    keep_similarity: float = option(
        0.75, "sskd: share of wrong similarities that is transferred [2006.07114].", low=0, high=1
    )
    head_epochs: float = option(
        60.0,
        "sskd: epochs of the teacher's head, kept beside a teacher that is a folder [2006.07114].",
        low=0,
        open_low=True,
    )
    head_learning_rate: float = option(
        0.05, "sskd: learning rate of the head, / 10 at 1/2 and 3/4 [2006.07114].", bounds=LEARNING_RATE
    )


@dataclass
class SskdOptions(SskdOwnOptions, DistillationOptions, ClassifierOptions):
    """What SSKD reads."""


class Sskd(Supervised):
    """Stage 2: predictions on upright and rotated images, and similarities between them, distilled with a selection.

    Where the teacher is wrong, only the best-ranked share of its rows is transferred; the shares kept are logged.

    Rows are ranked, selected and averaged, and similarities taken, within the batch of one process: W processes train
    on the mean of W such losses, as gradient accumulation over W batches would, not as on one batch W times as large.

    Args:
        student: the classifier.
        teacher: a classifier of the same classes, frozen here.
        teacher_head: its self-supervision head of stage 1, frozen here.
        weights, temperatures, keep: see :func:`hf_vipriors.losses.sskd.sskd`.
        ema_decay, layer_decay, propagate_labels: as in :class:`Supervised`. The loss on labels is the plain
            cross-entropy [0].

    Raises:
        ValueError: a teacher without a classifier for these classes.
    """

    name, teacher_kind = "sskd", "classifier"
    summary = "predictions and similarities on rotated images"
    options = SskdOptions
    papers = (SSKD,)
    parts_shown = {**Supervised.parts_shown, "kd": "kd", "transfer": "tf", "similarity": "sim"}
    starts_from_teacher = False
    views_kind = RotationViews

    @classmethod
    def defaults(cls, args: Any) -> dict[str, Default]:
        weights = {"classification_weight": 0.1, "kd_weight": 0.9, "label_smoothing": 0.0}
        return super().defaults(args) | not_given(args, "sskd [2006.07114]", **weights)

    @classmethod
    def check(cls, args: Any) -> None:
        super().check(args)
        for name, unused in (("label_smoothing", 0.0), ("mixup", 0.0), ("cutmix", 0.0), ("class_weights", "none")):
            if getattr(args, name) != unused:
                raise InputError(f"--{name} does not go with --method sskd: leave it out")

    @classmethod
    def check_batch(cls, args: Any) -> None:
        if args.per_device_train_batch_size < 2:
            raise InputError(
                "--method sskd compares the images of a batch: give --per_device_train_batch_size 2 or more"
            )

    @classmethod
    def build(cls, networks: Sequence[PreTrainedModel], args: Any, material: Material) -> Sskd:
        (student,), teacher = networks, material.teachers[0]
        with torch.random.fork_rng(devices=[]):  # whether a head is found or fitted changes nothing else
            head = self_supervision_head(feature_dim(teacher.backbone))
        return cls(
            student,
            teacher,
            head,
            weights=(args.classification_weight, args.kd_weight, args.transfer_weight, args.similarity_weight),
            temperatures=(args.kd_temperature, args.kd_temperature, args.similarity_temperature),
            keep=(args.keep_transfer, args.keep_similarity),
            ema_decay=args.ema_decay,
            layer_decay=args.layer_decay,
            propagate_labels=args.propagate_labels,
        )

    @classmethod
    def steps_before(cls, args: Any, steps_per_epoch: int) -> float:
        return args.head_epochs * steps_per_epoch

    def prepare(self, trainer: Any) -> None:
        """Fit the teacher's head, or take the one that an earlier run fitted on the same teacher and images."""
        fit_head(SskdPretext(self.teacher.model, self._held_head[0]), trainer)
        self._held_head[0].requires_grad_(False).eval()

    def __init__(
        self,
        student: VipriorsForImageClassification,
        teacher: VipriorsForImageClassification,
        teacher_head: nn.Module,
        *,
        weights: tuple[float, float, float, float] = (0.1, 0.9, 2.7, 10.0),
        temperatures: tuple[float, float, float] = (4.0, 4.0, 0.5),
        keep: tuple[float, float] = (1.0, 0.75),
        ema_decay: float = 0.0,
        layer_decay: float = 1.0,
        propagate_labels: bool = False,
    ):
        options = {"ema_decay": ema_decay, "layer_decay": layer_decay, "propagate_labels": propagate_labels}
        super().__init__(student, label_smoothing=0.0, **options)
        self.teacher = FrozenTeacher(teacher, student.config.image_mean, student.config.image_std)
        if self.teacher.num_classes != self.num_classes:
            raise ValueError(f"the teacher answers for {self.teacher.num_classes} classes, not {self.num_classes}")
        # Held like the teacher: no parameter of ours, not in checkpoints.
        self._held_head = (teacher_head.requires_grad_(False).eval(),)
        self.head = self_supervision_head(feature_dim(student.backbone))
        self.loss_options = {"weights": tuple(weights), "temperatures": tuple(temperatures), "keep": tuple(keep)}

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self._held_head[0]._apply(fn, recurse)
        return self

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        """``views``: one, ``(4B, 3, h, w)``, rows 4i to 4i + 3 the four rotations of image i."""
        images = views[0]
        if len(images) != 4 * len(labels):
            raise ValueError(f"SSKD takes four rotations of each image: {len(images)} rows for {len(labels)} labels")
        if len(labelled_first([], labels, labelled)[1]) < len(labels):
            raise ValueError("supervised training met an image without a label")
        features, logits = pooled_and_logits(self.student, images)
        teacher_features, teacher_logits = self.teacher.pooled_and_logits(images)
        result = sskd.masked_sskd(
            logits,
            self.head(features),
            teacher_logits,
            self._held_head[0](teacher_features),
            labels,
            **self.loss_options,
        )
        parts = {
            "classification": result.ce.detach(),
            "kd": result.kd.detach(),
            "transfer": result.tf.detach(),
            "similarity": result.ss.detach(),
            "kept_transfer": result.kept_tf.float().mean(),
            "kept_similarity": result.kept_ss.float().mean(),
        }
        return MethodOutput(loss=result.total, parts=parts, logits=logits[::4])
