"""CRD: the student's features tell, among many images, which one the teacher is looking at.

References:
    [0] Contrastive Representation Distillation, https://arxiv.org/abs/1910.10699
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed import all_reduce
from torch.nn import functional as F

from .. import losses
from ..backbones import feature_dim
from ..models import VipriorsForImageClassification, VipriorsModel
from .base import MethodOutput, pooled_and_logits
from .distributed import gather, world
from .kd import KnowledgeDistillation


class Crd(KnowledgeDistillation):
    """Cross-entropy, and noise-contrastive estimation between student and teacher features.

    Both pooled features go through a linear embedding. A memory keeps, for every training image, the last embedding by
    either network; negatives are drawn from the *other* network's memory, of images of other classes [0]. Where fewer
    than ``negatives`` exist (for the largest class), that many are drawn for every image.

    Args:
        student, teacher, options: as in :class:`KnowledgeDistillation`.
        labels: ``(N,)`` class of every training image, by its number in the data set.
        contrast_weight: default 0.8 [0].
        embedding_dim: default 128 [0].
        negatives: default 16384 [0].
        temperature: default 0.07 [0].
        memory_momentum: share of the old memory that stays. Default 0.5 [0].
        classification_weight, kd_weight: default 1 and 0 [0].

    Raises:
        ValueError: no image of another class.
    """

    def __init__(
        self,
        student: VipriorsForImageClassification,
        teacher: VipriorsModel | VipriorsForImageClassification,
        *,
        labels: Tensor,
        contrast_weight: float = 0.8,
        embedding_dim: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        memory_momentum: float = 0.5,
        classification_weight: float = 1.0,
        kd_weight: float = 0.0,
        **options,
    ):
        weights = {"classification_weight": classification_weight, "kd_weight": kd_weight}
        super().__init__(student, teacher, **weights, **options)
        self.contrast_weight, self.temperature, self.memory_momentum = contrast_weight, temperature, memory_momentum
        others = len(labels) - int(labels.bincount().max())
        if others < 1:
            raise ValueError("CRD draws its negatives from other classes: there is only one")
        self.negatives = min(negatives, others)
        self.student_embedding = nn.Linear(feature_dim(student.backbone), embedding_dim)
        self.teacher_embedding = nn.Linear(feature_dim(teacher.backbone), embedding_dim)
        self.register_buffer("labels", labels.clone(), persistent=False)
        for name in ("student_memory", "teacher_memory"):
            self.register_buffer(name, F.normalize(torch.randn(len(labels), embedding_dim), dim=1))
        # Estimated on the first batch and kept; 0: not yet.
        self.register_buffer("normalisers", torch.zeros(2))

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor) -> MethodOutput:
        if labels.min() < 0:
            raise ValueError("CRD draws its negatives by class, and met an image without a label")
        images, targets = self.mixed(views[0], labels)
        student_features, logits = pooled_and_logits(self.student, images)
        teacher_features, teacher_logits = self.teacher.pooled_and_logits(images)
        student = losses.unit_rows(self.student_embedding(student_features))
        teacher = losses.unit_rows(self.teacher_embedding(teacher_features))
        contrast = self._contrast(student, teacher, self._others(index))
        if self.training:
            self._remember(student.detach(), teacher.detach(), index)
        loss, parts = self.answers_loss(logits, targets, self.with_more(teacher_logits, images))
        return MethodOutput(
            loss=loss + self.contrast_weight * contrast, parts={**parts, "contrast": contrast.detach()}, logits=logits
        )

    def _others(self, index: Tensor) -> Tensor:
        """Numbers ``(B, K)`` of images of other classes than each image's own, drawn without replacement."""
        other = self.labels[None, :] != self.labels[index][:, None]
        # One number from the CPU's generator, which a checkpoint keeps; the draw itself where the memories are, and
        # another one on each process, although all share their seed.
        seed = int(torch.randint(2**48, (1,))) + world()[0]
        generator = torch.Generator(other.device).manual_seed(seed)
        draw = torch.rand(other.shape, generator=generator, device=other.device).masked_fill(~other, -1.0)
        return draw.topk(self.negatives, dim=1, sorted=False).indices

    def _contrast(self, student: Tensor, teacher: Tensor, others: Tensor) -> Tensor:
        """Sum of the two directions: the student's embedding as anchor, and the teacher's."""
        options = {"images": len(self.labels), "temperature": self.temperature}
        directions = ((student, teacher, self.teacher_memory), (teacher, student, self.student_memory))
        total = 0.0
        for number, (anchor, positive, memory) in enumerate(directions):
            negatives = memory[others]
            # A copy: backward keeps it, while the other direction may still write into the buffer.
            normaliser = self.normalisers[number].clone()
            if normaliser == 0:
                estimate = losses.crd_normaliser(anchor, positive, negatives, **options)
                normaliser = _mean_over_processes(estimate)
                if self.training:
                    self.normalisers[number] = normaliser
            total = total + losses.crd(anchor, positive, negatives, **options, normaliser=normaliser)
        return total

    @torch.no_grad()
    def _remember(self, student: Tensor, teacher: Tensor, index: Tensor) -> None:
        """Move the memory of the batch's images, the same on every process."""
        index = gather(index)
        for memory, embedding in ((self.student_memory, gather(student)), (self.teacher_memory, gather(teacher))):
            moved = self.memory_momentum * memory[index] + (1 - self.memory_momentum) * embedding
            memory[index] = F.normalize(moved, dim=1)


def _mean_over_processes(value: Tensor) -> Tensor:
    _, size = world()
    if size > 1:
        value = value.clone()
        all_reduce(value)
    return value / size
