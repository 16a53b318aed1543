"""FitNets: a hint from the middle of the teacher.

References:
    [0] FitNets: Hints for Thin Deep Nets, https://arxiv.org/abs/1412.6550
    [1] Contrastive Representation Distillation (its comparison of methods), https://arxiv.org/abs/1910.10699
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .. import losses
from ..models import VipriorsForImageClassification, VipriorsModel
from ..options import option
from ..papers import Paper
from .base import Material, MethodOutput
from .kd import KnowledgeDistillation, KnowledgeDistillationOptions
from .stage_pairs import StagePairs, connector, same_size

FITNETS = Paper(
    "FitNets: Hints for Thin Deep Nets",
    "https://arxiv.org/abs/1412.6550",
    "Adriana Romero and Nicolas Ballas and Samira Ebrahimi Kahou and Antoine Chassang and Carlo Gatta and "
    "Yoshua Bengio",
    2014,
)


@dataclass
class FitNetOptions(KnowledgeDistillationOptions):
    """What FitNets read."""

    hint_weight: float = option(100.0, "fitnet: weight of the hint's squared error [1910.10699].", low=0)
    hint_stage: int | None = option(
        None, "fitnet: which of the (at most four) stages, 1: shallowest; None: middle.", low=1, high=4
    )


class FitNet(KnowledgeDistillation):
    """Cross-entropy, and the mean squared error between the middle stages after a regressor.

    The stages are compared behind their ReLU where they end in one, as [0] does. [0] trains the hint first and the
    predictions afterwards; trained together, as here, it is a row of the tables in [1], which take the second of three
    blocks. NOTE of the CIFAR networks the stem counts as a stage: the middle is their first block, ``hint_stage=3``
    the second. NOTE the regressor of [1] ends in a ReLU, this one in its batch norm.

    Args:
        student, teacher, options: as in :class:`KnowledgeDistillation`.
        hint_weight: weight of the squared error. Default 100 [1].
        hint_stage: which of the paired stages, 1 is the shallowest; None (default) the middle one, of four the second.
        classification_weight, kd_weight: default 1 and 0 [1].
    """

    name, teacher_kind = "fitnet", "features"
    summary = "a middle stage"
    options = FitNetOptions
    papers = (FITNETS,)
    parts_shown = {**KnowledgeDistillation.parts_shown, "hint": "hint"}

    @classmethod
    def own_settings(cls, args: Any, material: Material) -> dict[str, Any]:
        return {"hint_weight": args.hint_weight, "hint_stage": args.hint_stage}

    def __init__(
        self,
        student: VipriorsForImageClassification,
        teacher: VipriorsModel | VipriorsForImageClassification,
        *,
        hint_weight: float = 100.0,
        hint_stage: int | None = None,
        classification_weight: float = 1.0,
        kd_weight: float = 0.0,
        **options,
    ):
        weights = {"classification_weight": classification_weight, "kd_weight": kd_weight}
        super().__init__(student, teacher, **weights, **options)
        self.hint_weight = hint_weight
        # After the EMA has copied the student: a copy must not carry hooks that write into these taps.
        self.stages = StagePairs(student, self.teacher)
        count = len(self.stages.pairs)
        if hint_stage is not None and not 1 <= hint_stage <= count:
            raise ValueError(f"hint_stage must be within 1 and {count}, got {hint_stage}")
        self.hint = (count - 1) // 2 if hint_stage is None else hint_stage - 1
        ours, theirs = self.stages.pairs[self.hint]
        self.regressor = connector(ours.channels, theirs.channels)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        images, targets = self.mixed(views[0], labels, labelled)
        student_maps, logits = self.stages.of_student(images)
        teacher_maps, teacher_logits = self.stages.of_teacher(images)
        maps = [
            maps[self.hint] if stage.norm is None else maps[self.hint].relu()
            for maps, stage in zip((student_maps, teacher_maps), self.stages.pairs[self.hint], strict=True)
        ]
        hint = losses.fitnet(*same_size(self.regressor(maps[0]), maps[1]))
        loss, parts = self.ce_and_kd_loss(logits, targets, self.ensemble_logits(teacher_logits, images))
        return MethodOutput(loss=loss + self.hint_weight * hint, parts={**parts, "hint": hint.detach()}, logits=logits)
