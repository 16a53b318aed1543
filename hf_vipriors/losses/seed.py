"""Self-supervised distillation: a small student learns how a frozen teacher sees an image among many others.

References:
    [0] SEED: Self-supervised Distillation for Visual Representation, https://arxiv.org/abs/2101.04731
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from . import _checks, _queue
from .unit_rows import unit_rows


@_checks.in_float32
def seed(
    student: Tensor,
    teacher: Tensor,
    queue: Tensor,
    *,
    student_temperature: float = 0.2,
    teacher_temperature: float = 0.01,
    query_index: Tensor | None = None,
    queue_index: Tensor | None = None,
) -> Tensor:
    r"""Cross-entropy between the teacher's and the student's similarities to a queue of teacher embeddings [0].

    .. math:: L = -\sum_{j=0}^{K} p^t_j \log p^s_j, \quad
              p^t = softmax([z_t \cdot z_t, z_t \cdot d_1, ..., z_t \cdot d_K] / T_t), \quad
              p^s = softmax([z_s \cdot z_t, z_s \cdot d_1, ..., z_s \cdot d_K] / T_s)

    The teacher's own embedding stands first, with cosine 1. A small :math:`T_t` sharpens the teacher until that
    entry alone counts (contrast against the queue), a larger one passes on its neighbours as well.

    The loss does not go to 0: its floor is the teacher's entropy, and the student's :math:`T_s` may keep it above.

    Args:
        student: ``(B, D)`` embeddings of the student, raw; gradients flow here.
        teacher: ``(B, D)`` embeddings of the teacher **of the same views**, raw, treated as constant.
        queue: ``(K, D)`` earlier teacher embeddings; push ``teacher`` after the loss, not before.
        student_temperature: :math:`T_s` > 0 on cosines. Default 0.2 [0].
        teacher_temperature: :math:`T_t` > 0 on cosines. Default 0.01 [0].
        query_index: ``(B,)`` number of each image in the data set.
        queue_index: ``(K,)`` number of the image behind each queue entry, -1 where none. Given both, entries that
            show the very image being compared leave both softmaxes. Needed as soon as the queue is not far smaller
            than the data set.

    Returns:
        Scalar mean over the batch, float32.

    Raises:
        ValueError: on a temperature <= 0, mismatched shapes, an empty batch or queue, one index without the other,
            NaN or infinity in the teacher or the queue.

    Example:
        >>> z = torch.eye(4)
        >>> queue = torch.eye(4)[:2]
        >>> round(seed(z[2:], z[2:], queue).item(), 4)  # two others at a right angle: ln(1 + 2 e^-5)
        0.0134
        >>> index = torch.arange(4)
        >>> round(seed(z, z, queue, query_index=index, queue_index=index[:2]).item(), 4)
        0.0101
    """
    _checks.positive(student_temperature, "student_temperature")
    _checks.positive(teacher_temperature, "teacher_temperature")
    _checks.embeddings(student, "student")
    _checks.embeddings(teacher, "teacher", like=student)
    own = _queue.own_image(student, queue, query_index, queue_index)
    _checks.finite(teacher, "teacher")
    _checks.finite(queue, "queue")

    student = unit_rows(student)
    teacher, queue = (unit_rows(t.detach()) for t in (teacher, queue))
    student_logits = _similarities(student, teacher, queue, own) / student_temperature
    teacher_logits = _similarities(teacher, teacher, queue, own) / teacher_temperature
    log_student = F.log_softmax(student_logits, dim=1)
    if own is not None:
        # A dropped entry has probability 0 and logarithm -inf, whose product is NaN: it counts as 0.
        log_student = log_student.masked_fill(F.pad(own, (1, 0)), 0.0)
    return -(F.softmax(teacher_logits, dim=1) * log_student).sum(dim=1).mean()


def _similarities(embeddings: Tensor, teacher: Tensor, queue: Tensor, own: Tensor | None) -> Tensor:
    """``(B, 1 + K)`` cosines to the image's own teacher embedding and to the queue, -inf where an entry is dropped."""
    others = embeddings @ queue.T
    if own is not None:
        others = others.masked_fill(own, -torch.inf)
    return torch.cat([(embeddings * teacher).sum(dim=1, keepdim=True), others], dim=1)
