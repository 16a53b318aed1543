"""Knowledge distillation: the student answers as the teacher does. Base of all that distils on labelled images.

References:
    [0] Distilling the Knowledge in a Neural Network, https://arxiv.org/abs/1503.02531
    [1] Knowledge Distillation Meets Self-Supervision, https://arxiv.org/abs/2006.07114
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .. import losses
from ..models import VipriorsForImageClassification, VipriorsModel
from ..options import Default
from ..papers import Paper
from .base import Material, MethodOutput
from .frozen_teacher import FrozenTeacher
from .options import DistillationOptions, LabelOptions, not_given
from .supervised import Supervised, label_settings

KD = Paper(
    "Distilling the Knowledge in a Neural Network",
    "https://arxiv.org/abs/1503.02531",
    "Geoffrey Hinton and Oriol Vinyals and Jeff Dean",
    2015,
)


@dataclass
class KnowledgeDistillationOptions(DistillationOptions, LabelOptions):
    """What knowledge distillation reads, and what all methods that derive from it read too."""


class KnowledgeDistillation(Supervised):
    r"""Cross-entropy, and the Kullback-Leibler divergence to the frozen teacher's softened predictions [0].

    .. math:: L = w_{CE} \, CE + w_{KD} \, T^2 \, KL(\sigma(t / T) \| \sigma(s / T))

    Methods that distil features derive from it and add their own term; with ``kd_weight`` > 0 predictions too.
    Images without a label (-1) may be in the batch: all but the cross-entropy holds for them too.

    Args:
        student: the classifier.
        teacher: frozen here; see :class:`FrozenTeacher`. A classifier of the same classes where ``kd_weight`` > 0.
        classification_weight: w_CE. Default 0.1 [1].
        kd_weight: w_KD. Default 0.9 [1].
        kd_temperature: T. Default 4 [1].
        batch_statistics: the teacher's batch norms on the batch. Default False.
        more_teachers: further classifiers; the predictions are the mean of all teachers' probabilities. Default none.
        options: as in :class:`Supervised`.

    Raises:
        ValueError: predictions are to be distilled from a teacher that gives none for these classes.
    """

    name, teacher_kind = "kd", "classifier"
    summary = "predictions"
    options = KnowledgeDistillationOptions
    papers = (KD,)
    parts_shown = {**Supervised.parts_shown, "kd": "kd"}
    takes_unlabelled = True
    starts_from_teacher = False

    @classmethod
    def defaults(cls, args: Any) -> dict[str, Default]:
        weights = not_given(args, "kd [2006.07114]", classification_weight=0.1, kd_weight=0.9)
        return super().defaults(args) | (weights if cls.teacher_kind == "classifier" else {})

    @classmethod
    def build(cls, networks: Sequence[PreTrainedModel], args: Any, material: Material) -> KnowledgeDistillation:
        first, *others = material.teachers
        return cls(
            *networks,
            first,
            **label_settings(networks[0], args, material),
            **cls.own_settings(args, material),
            classification_weight=args.classification_weight,
            kd_weight=args.kd_weight,
            kd_temperature=args.kd_temperature,
            batch_statistics=args.teacher_batch_statistics,
            more_teachers=others,
        )

    @classmethod
    def own_settings(cls, args: Any, material: Material) -> dict[str, Any]:
        """The keyword arguments that a method that derives from this one has beside these."""
        return {}

    def __init__(
        self,
        student: VipriorsForImageClassification,
        teacher: VipriorsModel | VipriorsForImageClassification,
        *,
        classification_weight: float = 0.1,
        kd_weight: float = 0.9,
        kd_temperature: float = 4.0,
        batch_statistics: bool = False,
        more_teachers: Sequence[VipriorsForImageClassification] = (),
        **options,
    ):
        super().__init__(student, **options)
        self.classification_weight, self.kd_weight = classification_weight, kd_weight
        self.kd_temperature = kd_temperature
        statistics = student.config.image_mean, student.config.image_std
        self.teacher, *others = (
            FrozenTeacher(model, *statistics, batch_statistics=batch_statistics) for model in (teacher, *more_teachers)
        )
        self.more_teachers = nn.ModuleList(others)
        if others and not kd_weight:
            raise ValueError("several teachers share their predictions alone: kd_weight must be > 0")
        for one in (self.teacher, *others) if kd_weight else ():
            if one.num_classes != self.num_classes:
                raise ValueError(f"the teacher answers for {one.num_classes} classes, not {self.num_classes}")

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        images, targets = self.mixed(views[0], labels, labelled)
        logits = self.student(images).logits
        loss, parts = self.ce_and_kd_loss(logits, targets, self.teacher_predictions(images))
        return MethodOutput(loss=loss, parts=parts, logits=logits)

    def teacher_predictions(self, images: Tensor) -> Tensor | None:
        """The teacher's logits, where predictions are distilled."""
        return self.ensemble_logits(self.teacher.logits(images), images) if self.kd_weight else None

    def ensemble_logits(self, logits: Tensor | None, images: Tensor) -> Tensor | None:
        """The predictions of all teachers: ``logits`` are the first one's.

        The mean of their probabilities, as logits: that of their logits would let the surest one decide alone.
        """
        if not self.more_teachers:
            return logits
        predictions = [logits, *(teacher.logits(images) for teacher in self.more_teachers)]
        return torch.stack([each.float().softmax(dim=1) for each in predictions]).mean(dim=0).clamp(min=1e-12).log()

    def ce_and_kd_loss(
        self, logits: Tensor, targets: Tensor, teacher_logits: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of cross-entropy and, with ``kd_weight`` > 0, distilled predictions; and its parts."""
        classification = self.classification_loss(logits, targets)
        loss, parts = self.classification_weight * classification, {"classification": classification.detach()}
        if self.kd_weight:
            distilled = losses.kd(logits, teacher_logits, temperature=self.kd_temperature)
            loss, parts["kd"] = loss + self.kd_weight * distilled, distilled.detach()
        return loss, parts
