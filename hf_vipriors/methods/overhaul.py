"""Overhaul feature distillation: phase 2 of Distilling Visual Priors.

References:
    [0] Distilling Visual Priors from Self-Supervised Learning, https://arxiv.org/abs/2008.00261
    [1] A Comprehensive Overhaul of Feature Distillation, https://arxiv.org/abs/1904.01866
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..losses import overhaul
from ..models import VipriorsForImageClassification, VipriorsModel
from ..options import option
from ..papers import VIPRIORS, Paper
from .base import Material, MethodOutput, Progress
from .kd import KnowledgeDistillation, KnowledgeDistillationOptions
from .stage_pairs import StagePairs, connector, same_size

OVERHAUL = Paper(
    "A Comprehensive Overhaul of Feature Distillation",
    "https://arxiv.org/abs/1904.01866",
    "Byeongho Heo and Jeesoo Kim and Sangdoo Yun and Hyojin Park and Nojun Kwak and Jin Young Choi",
    2019,
)


@dataclass
class OverhaulOptions(KnowledgeDistillationOptions):
    """What overhaul feature distillation reads."""

    feature_weight: float = option(
        1e-4,
        "overhaul: weight of the feature distance [2008.00261], a sum over all elements of maps: small maps want a "
        "larger one. weight_x_elements in the log is 40 in 2008.00261.",
        low=0,
    )
    next_norm: bool = option(
        False,
        "overhaul: where stages end in bare sums (wide ResNets) compare behind the batch norm that follows, with its "
        "margin, and not the stem [1904.01866].",
    )
    distil_from_epoch: float = option(5.0, "overhaul: cross-entropy alone before this epoch [2008.00261].", low=0)


class OverhaulDistillation(KnowledgeDistillation):
    r"""Cross-entropy, and the student's stages regularised towards the frozen teacher's.

    .. math:: L = CE + \lambda \sum_{i=0}^{L-1} 2^{-(L-1-i)} \frac{1}{B} d_i

    with d_i the partial L2 distance of :func:`hf_vipriors.losses.overhaul.partial_l2` between the student's map, after
    a connector (1x1 convolution and batch norm), and the teacher's, both before their ReLU. Where the teacher's stage
    does not end in a ReLU (EfficientNet, ConvNeXt, ViT) d_i is the plain squared distance of the stage outputs.

    Any two timm networks fit: stages are paired from the deepest, the larger of two maps is averaged down to the
    smaller, the connector matches the channels.

    Args:
        student: the classifier, usually started from the teacher's backbone.
        teacher: frozen here; see :class:`FrozenTeacher`.
        feature_weight: lambda, of a sum over all elements of the maps. Default 1e-4 [0]. How strong that is depends on
            the maps: the logged part ``weight_x_elements`` is lambda times their weighted number of elements, 40 for
            the ResNet-50 at 224 pixels of [0], 0.14 for the recipes' ResNet-18 of 0.70 M at 48.
        next_norm: where stages end in bare sums (wide ResNets), compare behind the batch norm that follows, with its
            margin, and not the stem [1]. Default False (NOTE): the sums and the stem, by the plain distance.
        start_epoch: no feature distance before it. Default 5 [0].
        batch_statistics: the teacher's batch norms as the published program ran them. Default False.
        classification_weight, kd_weight: default 1 and 0 [0].
        options: as in :class:`KnowledgeDistillation`.
    """

    name, teacher_kind = "overhaul", "features"
    summary = "features of all stages"
    options = OverhaulOptions
    papers = (VIPRIORS, OVERHAUL)
    parts_shown = {**KnowledgeDistillation.parts_shown, "distillation": "distil"}
    starts_from_teacher = True

    @classmethod
    def own_settings(cls, args: Any, material: Material) -> dict[str, Any]:
        return {
            "feature_weight": args.feature_weight,
            "next_norm": args.next_norm,
            "start_epoch": args.distil_from_epoch,
        }

    def __init__(
        self,
        student: VipriorsForImageClassification,
        teacher: VipriorsModel | VipriorsForImageClassification,
        *,
        feature_weight: float = 1e-4,
        next_norm: bool = False,
        start_epoch: float = 5.0,
        classification_weight: float = 1.0,
        kd_weight: float = 0.0,
        **options,
    ):
        weights = {"classification_weight": classification_weight, "kd_weight": kd_weight}
        super().__init__(student, teacher, **weights, **options)
        self.feature_weight, self.start_epoch = feature_weight, start_epoch
        self.distils = start_epoch <= 0
        # After the EMA has copied the student: a copy must not carry hooks that write into these taps.
        self.stages = StagePairs(student, self.teacher, next_norm=next_norm)
        self.connectors = nn.ModuleList(connector(s.channels, t.channels) for s, t in self.stages.pairs)
        for number, (_, stage) in enumerate(self.stages.pairs):
            margin = None if stage.norm is None else overhaul.bn_margin(stage.norm.weight, stage.norm.bias)
            self.register_buffer(f"margin{number}", margin, persistent=False)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        images, targets = self.mixed(views[0], labels, labelled)
        if not self.distils:
            logits = self.student(images).logits
            loss, parts = self.ce_and_kd_loss(logits, targets, self.teacher_predictions(images))
            return MethodOutput(loss=loss, parts=parts, logits=logits)
        student_maps, logits = self.stages.of_student(images)
        teacher_maps, teacher_logits = self.stages.of_teacher(images)
        loss, parts = self.ce_and_kd_loss(logits, targets, self.ensemble_logits(teacher_logits, images))
        total, elements = self._distillation(student_maps, teacher_maps)
        distillation = total / len(images)
        loss = loss + self.feature_weight * distillation
        parts["distillation"] = distillation.detach()
        parts["weight_x_elements"] = total.new_full((), self.feature_weight * elements)
        return MethodOutput(loss=loss, parts=parts, logits=logits)

    def _distillation(self, student_maps: list[Tensor], teacher_maps: list[Tensor]) -> tuple[Tensor, float]:
        """Weighted sum over the paired stages, sum over elements and batch, float32; elements of an image likewise."""
        count = len(self.connectors)
        total, elements = 0.0, 0.0
        for number, (student, teacher) in enumerate(zip(student_maps, teacher_maps, strict=True)):
            student, teacher = same_size(self.connectors[number](student), teacher)
            margin = self.get_buffer(f"margin{number}")
            if margin is None:
                distance = (student.float() - teacher.float()).square().sum()
            else:
                distance = overhaul.partial_l2(student, teacher, margin)
            weight = 2.0 ** -(count - 1 - number)
            total, elements = total + weight * distance, elements + weight * teacher[0].numel()
        return total, elements

    def scale_epochs(self, share: float) -> None:
        self.start_epoch *= share

    def begin_step(self, progress: Progress) -> None:
        self.distils = progress.epoch >= self.start_epoch
