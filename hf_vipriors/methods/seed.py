"""SEED: a small student learns, without labels, whom a frozen teacher finds similar.

References:
    [0] SEED: Self-supervised Distillation for Visual Representation, https://arxiv.org/abs/2101.04731
    [1] Unsupervised Learning of Visual Features by Contrasting Cluster Assignments, https://arxiv.org/abs/2006.09882
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import losses
from ..models import VipriorsForImageClassification, VipriorsModel
from .base import FrozenTeacher, Method, MethodOutput
from .key_queue import KeyQueue


class Seed(Method):
    """Student and teacher see the same view; the student's similarities to a queue of teacher embeddings follow his.

    With more than one view the loss is the mean over all of them. Views smaller than the first (multi-crop [1]) have a
    queue of their own: the teacher's embeddings of small patches. Of each size one view an image enters its queue, so
    that a queue of K keys shows K images.

    Args:
        student: with a projector as wide as the teacher's embedding.
        teacher: frozen here; its projection is distilled, or its pooled features where it has no projector.
        queue_length: K, number of teacher embeddings kept. [0]: 65536.
        patch_queue_length: the same for small views; None (default) without them.
        student_temperature, teacher_temperature: see :func:`hf_vipriors.losses.seed`. Defaults 0.2 and 0.01 [0].
        instance_aware: mask queue entries of the queried image. Default True.

    Raises:
        ValueError: when the student's projection is not as wide as the teacher's embedding.
    """

    def __init__(
        self,
        student: VipriorsModel,
        teacher: VipriorsModel | VipriorsForImageClassification,
        *,
        queue_length: int,
        patch_queue_length: int | None = None,
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
        self.instance_aware = instance_aware
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
            total = total + loss * len(group) / len(views)
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
