"""Overhaul feature distillation: phase 2 of Distilling Visual Priors.

References:
    [0] Distilling Visual Priors from Self-Supervised Learning, https://arxiv.org/abs/2008.00261
    [1] A Comprehensive Overhaul of Feature Distillation, https://arxiv.org/abs/1904.01866
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones import StageTaps
from ..losses import overhaul
from ..models import VipriorsForImageClassification, VipriorsModel
from .base import FrozenTeacher, MethodOutput, Progress
from .supervised import Supervised


class OverhaulDistillation(Supervised):
    r"""Cross-entropy, and the student's stages held near the frozen teacher's.

    .. math:: L = CE + \lambda \sum_{i=0}^{L-1} 2^{-(L-1-i)} \frac{1}{B} d_i

    with d_i the partial L2 distance of :func:`hf_vipriors.losses.overhaul.partial_l2` between the student's map, after
    a connector (1x1 convolution and batch norm), and the teacher's, both before their ReLU. Where the teacher's stage
    does not end in a ReLU (EfficientNet, ConvNeXt, ViT) d_i is the plain squared distance of the stage outputs.

    Any two timm networks fit: stages are paired from the deepest, the larger of two maps is averaged down to the
    smaller, the connector matches the channels.

    Args:
        student: the classifier, usually started from the teacher's backbone.
        teacher: frozen here; see :class:`FrozenTeacher`.
        feature_weight: lambda. Default 1e-4 [0] (sums over 224-pixel ResNet-50 maps; small networks want more).
        start_epoch: cross-entropy alone before it. Default 5 [0].
        batch_statistics: the teacher's batch norms as the published program ran them. Default False.
        options: as in :class:`Supervised`.
    """

    def __init__(
        self,
        student: VipriorsForImageClassification,
        teacher: VipriorsModel | VipriorsForImageClassification,
        *,
        feature_weight: float = 1e-4,
        start_epoch: float = 5.0,
        batch_statistics: bool = False,
        **options,
    ):
        super().__init__(student, **options)
        self.feature_weight, self.start_epoch = feature_weight, start_epoch
        self.distils = start_epoch <= 0
        self.teacher = FrozenTeacher(
            teacher, student.config.image_mean, student.config.image_std, batch_statistics=batch_statistics
        )
        # After the EMA has copied the student: a copy must not carry hooks that write into these taps.
        self._student_taps = StageTaps(student.backbone, student.config.image_size)
        self._teacher_taps = StageTaps(teacher.backbone, teacher.config.image_size)
        pairs = list(zip(reversed(self._student_taps.stages), reversed(self._teacher_taps.stages), strict=False))
        self.pairs = pairs[::-1]
        self.connectors = nn.ModuleList(connector(s.channels, t.channels) for s, t in self.pairs)
        for number, (_, stage) in enumerate(self.pairs):
            margin = None if stage.norm is None else overhaul.bn_margin(stage.norm.weight, stage.norm.bias)
            self.register_buffer(f"margin{number}", margin, persistent=False)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> MethodOutput:
        images, targets = self.mixed(views[0], labels)
        if not self.distils:
            logits = self.student(images).logits
            loss = self.classification_loss(logits, targets)
            return MethodOutput(loss=loss, parts={"classification": loss.detach()}, logits=logits)
        maps, final = self._student_taps(images)
        logits = self.student.backbone.forward_head(final)
        classification = self.classification_loss(logits, targets)
        distillation = self._distillation(maps, self._teacher_maps(images)) / len(images)
        loss = classification + self.feature_weight * distillation
        parts = {"classification": classification.detach(), "distillation": distillation.detach()}
        return MethodOutput(loss=loss, parts=parts, logits=logits)

    @torch.no_grad()
    def _teacher_maps(self, images: Tensor) -> list[Tensor]:
        return self._teacher_taps(self.teacher.prepared(images))[0]

    def _distillation(self, student_maps: list[Tensor], teacher_maps: list[Tensor]) -> Tensor:
        """Weighted sum over the paired stages, sum over elements and batch, float32."""
        count = len(self.pairs)
        total = 0.0
        for number, (student, teacher) in enumerate(zip(student_maps[-count:], teacher_maps[-count:], strict=True)):
            student = self.connectors[number](student)
            student, teacher = same_size(student, teacher)
            margin = self.get_buffer(f"margin{number}")
            if margin is None:
                distance = (student.float() - teacher.float()).square().sum()
            else:
                distance = overhaul.partial_l2(student, teacher, margin)
            total = total + 2.0 ** -(count - 1 - number) * distance
        return total

    def begin_step(self, progress: Progress) -> None:
        self.distils = progress.epoch >= self.start_epoch


def connector(student_channels: int, teacher_channels: int) -> nn.Sequential:
    """1x1 convolution and batch norm from the student's channels to the teacher's [1]."""
    layers = nn.Sequential(
        nn.Conv2d(student_channels, teacher_channels, kernel_size=1, bias=False), nn.BatchNorm2d(teacher_channels)
    )
    nn.init.kaiming_normal_(layers[0].weight, mode="fan_out", nonlinearity="linear")
    return layers


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average the larger of two maps down to the smaller: nothing is invented on the way."""
    size = tuple(min(a, b) for a, b in zip(student.shape[-2:], teacher.shape[-2:], strict=True))
    return tuple(m if m.shape[-2:] == size else F.adaptive_avg_pool2d(m, size) for m in (student, teacher))
