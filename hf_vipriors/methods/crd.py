"""CRD: the student's features tell, among many images, which one the teacher is looking at.

References:
    [0] Contrastive Representation Distillation, https://arxiv.org/abs/1910.10699
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import losses
from ..backbones import feature_dim
from ..errors import InputError
from ..models import VipriorsForImageClassification, VipriorsModel
from ..options import TEMPERATURE, option
from ..papers import Paper
from .base import Material, MethodOutput, labelled_first
from .distributed import gather, mean_over_processes, world
from .frozen_teacher import pooled_and_logits
from .kd import KnowledgeDistillation, KnowledgeDistillationOptions

CRD = Paper(
    "Contrastive Representation Distillation",
    "https://arxiv.org/abs/1910.10699",
    "Yonglong Tian and Dilip Krishnan and Phillip Isola",
    2019,
)


@dataclass
class CrdOptions(KnowledgeDistillationOptions):
    """What CRD reads."""

    contrast_weight: float = option(0.8, "crd: weight of the contrast [1910.10699].", low=0)
    contrast_dim: int = option(128, "crd: width of the embeddings [1910.10699].", low=1)
    contrast_temperature: float = option(0.07, "crd: T of the contrast [1910.10699].", bounds=TEMPERATURE)
    negatives: int = option(16384, "crd: negatives of other classes, or all there are [1910.10699].", low=1)
    memory_momentum: float = option(0.5, "crd: share of an image's old memory that stays [1910.10699].", low=0, high=1)


class Crd(KnowledgeDistillation):
    """Cross-entropy, and noise-contrastive estimation between student and teacher features.

    Both pooled features go through a linear embedding, and a memory keeps that of every training image by either
    network. What an embedding is compared with comes from the *other* network's memory, as it was before the step and
    without gradient [0]: the entry of its own image as positive, those of images of other classes as negatives. Where
    fewer than ``negatives`` exist (for the largest class), that many are drawn for every image.

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

    name, teacher_kind = "crd", "features"
    summary = "contrast of features"
    options = CrdOptions
    papers = (CRD,)
    parts_shown = {**KnowledgeDistillation.parts_shown, "contrast": "crd"}
    takes_unlabelled = False

    @classmethod
    def check(cls, args: Any) -> None:
        super().check(args)
        if args.mixup or args.cutmix:
            raise InputError("--mixup and --cutmix blend images, --method crd tells them apart: leave them out")

    @classmethod
    def options_read(cls, args: Any) -> tuple[str, ...]:
        return tuple(name for name in super().options_read(args) if name not in ("mixup", "cutmix"))

    @classmethod
    def own_settings(cls, args: Any, material: Material) -> dict[str, Any]:
        if len(material.labels.unique()) < 2:
            raise InputError("--method crd draws negatives from other classes, and the training images have one class")
        return {
            "labels": material.labels,
            "contrast_weight": args.contrast_weight,
            "embedding_dim": args.contrast_dim,
            "negatives": args.negatives,
            "temperature": args.contrast_temperature,
            "memory_momentum": args.memory_momentum,
        }

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
        # Estimated on the first batch and kept; 0: not yet. Asked once whether they are: asking waits for the device.
        self.register_buffer("normalisers", torch.zeros(2))
        self.normalised = False
        self.register_load_state_dict_post_hook(_ask_again)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        (images,), labels = labelled_first(views[:1], labels, labelled)
        if len(labels) < len(images):
            raise ValueError("CRD draws its negatives by class, and met an image without a label")
        images, targets = self._mixed(images, labels)
        student_features, logits = pooled_and_logits(self.student, images)
        teacher_features, teacher_logits = self.teacher.pooled_and_logits(images)
        student = losses.unit_rows(self.student_embedding(student_features))
        teacher = losses.unit_rows(self.teacher_embedding(teacher_features))
        contrast = self._contrast(student, teacher, index, self._others(index))
        if self.training:
            self._remember(student.detach(), teacher.detach(), index)
        loss, parts = self.ce_and_kd_loss(logits, targets, self.ensemble_logits(teacher_logits, images))
        return MethodOutput(
            loss=loss + self.contrast_weight * contrast, parts={**parts, "contrast": contrast.detach()}, logits=logits
        )

    def _others(self, index: Tensor) -> Tensor:
        """Numbers ``(B, K)`` of images of other classes than each image's own, drawn without replacement."""
        other = self.labels[None, :] != self.labels[index][:, None]
        # Drawn where the memories are. The processes share their seed: turned by its rank, each has another draw.
        draw = torch.rand(other.shape, device=other.device).roll(world()[0], dims=1).masked_fill(~other, -1.0)
        return draw.topk(self.negatives, dim=1, sorted=False).indices

    def _contrast(self, student: Tensor, teacher: Tensor, index: Tensor, others: Tensor) -> Tensor:
        """Sum of the two directions: the student's embedding as anchor, and the teacher's."""
        options = {"images": len(self.labels), "temperature": self.temperature}
        # The positive from the memory too: the live embedding would be pulled in both directions and pushed in one.
        directions = [
            (anchor, memory[index], memory[others])
            for anchor, memory in ((student, self.teacher_memory), (teacher, self.student_memory))
        ]
        normalisers = self._normalisers(directions, options)
        return sum(
            losses.crd(*direction, **options, normaliser=normaliser)
            for direction, normaliser in zip(directions, normalisers, strict=True)
        )

    def _normalisers(self, directions: Sequence[tuple[Tensor, ...]], options: dict[str, Any]) -> Tensor:
        """``(2,)``, estimated on the first batch that trains."""
        if not self.normalised and not (self.normalisers > 0).all():
            estimates = torch.stack([losses.crd_normaliser(*direction, **options) for direction in directions])
            estimates = mean_over_processes(estimates)
            if not self.training:
                return estimates
            self.normalisers.copy_(estimates)
        self.normalised = True
        return self.normalisers.clone()  # backward keeps it, and a checkpoint may be loaded into the buffer

    @torch.no_grad()
    def _remember(self, student: Tensor, teacher: Tensor, index: Tensor) -> None:
        """Move the memory of the batch's images, the same on every process."""
        index = gather(index)
        for memory, embedding in ((self.student_memory, gather(student)), (self.teacher_memory, gather(teacher))):
            moved = self.memory_momentum * memory[index] + (1 - self.memory_momentum) * embedding
            memory[index] = F.normalize(moved, dim=1)


def _ask_again(method: Crd, incompatible: Any) -> None:
    method.normalised = False
