"""SEED: a small student learns, without labels, whom a frozen teacher finds similar.

References:
    [0] SEED: Self-supervised Distillation for Visual Representation, https://arxiv.org/abs/2101.04731
    [1] Unsupervised Learning of Visual Features by Contrasting Cluster Assignments, https://arxiv.org/abs/2006.09882
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from .. import losses
from ..errors import InputError
from ..models import VipriorsForImageClassification, VipriorsModel
from ..options import TEMPERATURE, Default, option
from ..papers import Paper
from .base import Material, MethodOutput
from .frozen_teacher import FrozenTeacher, embedding_dim
from .key_queue import KeyQueue, queue_default
from .options import FeatureOptions, MultiCropOptions, QueueOptions, not_given
from .pretraining import LabelFreeMethod, check_patches, feature_config

PUBLISHED_QUEUE = 65536  # [0]
SEED = Paper(
    "SEED: Self-supervised Distillation for Visual Representation",
    "https://arxiv.org/abs/2101.04731",
    "Zhiyuan Fang and Jianfeng Wang and Lijuan Wang and Lei Zhang and Yezhou Yang and Zicheng Liu",
    2021,
)


@dataclass
class SimilarityOptions:
    """Of the two similarity distributions."""

    temperature: float | None = option(
        None,
        "T of the student's similarities, and of dogo's contrastive losses; None: 0.2 [2101.04731], 0.5 with simclr's "
        "[2104.09866].",
        bounds=TEMPERATURE,
    )
    teacher_temperature: float = option(
        0.01, "seed: T of the teacher's similarities [2101.04731].", bounds=TEMPERATURE
    )


@dataclass
class SeedOptions(SimilarityOptions, QueueOptions, MultiCropOptions, FeatureOptions):
    """What SEED reads."""

    patch_weight: float | None = option(
        None,
        "seed: weight of the small views' mean loss beside that of one full view, 1 in [2101.04731]; None: two full "
        "views, and each view counts the same.",
        low=0,
    )


class Seed(LabelFreeMethod):
    """Student and teacher see the same view; the student's similarities to a queue of teacher embeddings follow his.

    With more than one view the loss is the mean over all of them; NOTE [0] has one full view (cropped at 0.14-1) and
    six small ones, and adds their mean losses: ``patch_weight`` 1. Views smaller than the first (multi-crop [1])
    have a queue of their own: the teacher's embeddings of small patches. Of each size one view an image enters its
    queue, so that a queue of K keys shows K images.

    Args:
        student: with a projector as wide as the teacher's embedding.
        teacher: frozen here; its projection is distilled, or its pooled features where it has no projector.
        queue_length: K, number of teacher embeddings kept. [0]: 65536.
        patch_queue_length: the same for small views; None (default) without them.
        patch_weight: of the small views' mean loss beside that of the full ones; None (default): the mean over all.
        student_temperature, teacher_temperature: see :func:`hf_vipriors.losses.seed`. Defaults 0.2 and 0.01 [0].
        instance_aware: mask queue entries of the queried image. Default True.

    Raises:
        ValueError: when the student's projection is not as wide as the teacher's embedding.
    """

    name, job, teacher_kind = "seed", "pretrain", "features"
    summary = "a frozen teacher's similarities"
    options = SeedOptions
    papers = (SEED,)
    parts_shown = {"similarity": "sim", "teacher_cosine": "cos t"}

    @classmethod
    def defaults(cls, args: Any) -> dict[str, Default]:
        published = not_given(args, "seed [2101.04731]", temperature=0.2)
        return published | not_given(args, "seed has no margin", margin=0.0)

    @classmethod
    def data_defaults(cls, args: Any, images: int) -> dict[str, Default]:
        return queue_default(args, images, most=PUBLISHED_QUEUE, otherwise="give more images")

    @classmethod
    def check(cls, args: Any) -> None:
        super().check(args)
        if args.patch_weight is not None and not args.patches:
            raise InputError("--patch_weight weighs small views: give --patches 6, or leave it out")
        if args.peer_backbone is not None:
            raise InputError("--peer_backbone belongs to --method dogo: seed has a --teacher")

    @classmethod
    def full_views(cls, args: Any) -> int:
        return 2 if args.patches and args.patch_weight is None else 1

    @classmethod
    def networks(
        cls, args: Any, class_names: Sequence[str], teacher: VipriorsModel | VipriorsForImageClassification | None
    ) -> tuple[PreTrainedModel, ...]:
        width = embedding_dim(teacher)
        if args.projector_dim not in (None, width):
            raise InputError(f"--projector_dim {args.projector_dim}: the teacher embeds in {width}; leave it out")
        batch_norm = args.projector_batch_norm
        config = feature_config(
            args,
            class_names,
            image_size=args.image_size or teacher.config.image_size,
            projector_dim=width,
            projector_batch_norm=teacher.config.projector_batch_norm if batch_norm is None else batch_norm,
        )
        student = VipriorsModel(config)
        check_patches(args, student)
        return (student,)

    @classmethod
    def build(cls, networks: Sequence[PreTrainedModel], args: Any, material: Material) -> Seed:
        (student,) = networks
        return cls(
            student,
            material.teachers[0],
            queue_length=args.queue_length,
            patch_queue_length=args.queue_length if args.patches else None,
            patch_weight=args.patch_weight,
            student_temperature=args.temperature,
            teacher_temperature=args.teacher_temperature,
            instance_aware=args.instance_aware,
        )

    def __init__(
        self,
        student: VipriorsModel,
        teacher: VipriorsModel | VipriorsForImageClassification,
        *,
        queue_length: int,
        patch_queue_length: int | None = None,
        patch_weight: float | None = None,
        student_temperature: float = 0.2,
        teacher_temperature: float = 0.01,
        instance_aware: bool = True,
    ):
        super().__init__()
        self.student = student
        self.teacher = FrozenTeacher(teacher, student.config.image_mean, student.config.image_std)
        width = self.teacher.embedding_dim
        if student.config.projector_dim != width:
            raise ValueError(f"the student projects to {student.config.projector_dim}, the teacher embeds in {width}")
        self.temperatures = {"student_temperature": student_temperature, "teacher_temperature": teacher_temperature}
        self.instance_aware, self.patch_weight = instance_aware, patch_weight
        self.queue = KeyQueue(queue_length, width)
        self.patch_queue = None if patch_queue_length is None else KeyQueue(patch_queue_length, width)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        side = views[0].shape[-1]
        groups = [(self.queue, [v for v in views if v.shape[-1] == side])]
        patches = [v for v in views if v.shape[-1] != side]
        if patches:
            if self.patch_queue is None:
                raise ValueError("small views need a queue of their own: give patch_queue_length")
            groups.append((self.patch_queue, patches))
        total, cosine = 0.0, 0.0
        for queue, group in groups:
            loss, agreement = self._compare(queue, group, index)
            if self.patch_weight is None:
                total = total + loss * len(group) / len(views)
            else:
                total = total + (loss if queue is self.queue else self.patch_weight * loss)
            cosine = cosine + agreement * len(group) / len(views)
        return MethodOutput(loss=total, parts={"similarity": total.detach(), "teacher_cosine": cosine})

    def _compare(self, queue: KeyQueue, group: list[Tensor], index: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and mean cosine to the teacher over views of one size; they are one batch for both networks."""
        images = torch.cat(group)
        teacher = self.teacher.embedding(images)
        student = self.student(images).projection
        loss = losses.seed(
            student,
            teacher,
            queue.keys,
            **self.temperatures,
            query_index=index.repeat(len(group)) if self.instance_aware else None,
            queue_index=queue.index if self.instance_aware else None,
        )
        if self.training:
            queue.push_from_all(teacher[: len(index)], index)
        return loss, F.cosine_similarity(student.detach().float(), teacher.float(), dim=1).mean()

    def deployable(self) -> VipriorsModel:
        return self.student
