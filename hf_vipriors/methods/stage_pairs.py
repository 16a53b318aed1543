"""Two networks side by side, stage by stage: what feature distillation compares, and the layers in between."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones import Stage, StageTaps
from ..models import VipriorsForImageClassification
from .frozen_teacher import FrozenTeacher


class StagePairs:
    """The stage maps of student and teacher, paired from the deepest; any two timm networks fit.

    Args:
        student: tapped in place.
        teacher: tapped in place; runs without gradient.
        next_norm: of both, as in :class:`hf_vipriors.backbones.StageTaps`.

    Attributes:
        pairs: list of (student stage, teacher stage), shallow to deep.
    """

    def __init__(self, student: VipriorsForImageClassification, teacher: FrozenTeacher, *, next_norm: bool = False):
        self.student, self.teacher = student, teacher
        self._student_taps, self._teacher_taps = (
            StageTaps(model.backbone, model.config.image_size, next_norm=next_norm)
            for model in (student, teacher.model)
        )
        pairs = list(zip(reversed(self._student_taps.stages), reversed(self._teacher_taps.stages), strict=False))
        self.pairs: list[tuple[Stage, Stage]] = pairs[::-1]

    def of_student(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps of the paired stages and logits, in one pass."""
        maps, final = self._student_taps(images)
        return maps[-len(self.pairs) :], self.student.backbone.forward_head(final)

    @torch.no_grad()
    def of_teacher(self, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Maps of the paired stages and, of a classifier, logits, in one pass."""
        maps, final = self._teacher_taps(self.teacher.prepared(images))
        logits = None if self.teacher.num_classes is None else self.teacher.model.backbone.forward_head(final)
        return maps[-len(self.pairs) :], logits


def connector(student_channels: int, teacher_channels: int) -> nn.Sequential:
    """1x1 convolution and batch norm from the student's channels to the teacher's [1904.01866].

    NOTE the weights start smaller than the published ones by the square root of 2, which the batch norm takes out.
    """
    layers = nn.Sequential(
        nn.Conv2d(student_channels, teacher_channels, kernel_size=1, bias=False), nn.BatchNorm2d(teacher_channels)
    )
    nn.init.kaiming_normal_(layers[0].weight, mode="fan_out", nonlinearity="linear")
    return layers


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average the larger of two maps down to the smaller: nothing is invented on the way."""
    size = tuple(min(a, b) for a, b in zip(student.shape[-2:], teacher.shape[-2:], strict=True))
    return tuple(m if m.shape[-2:] == size else F.adaptive_avg_pool2d(m, size) for m in (student, teacher))
