"""The Kullback-Leibler divergence that every distillation of probabilities is built from."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def row_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of two softmaxed ``(N, C)``, row by row; no gradient to the teacher.

    Both sides stay in log-space: at a small temperature most probabilities underflow to 0 in float32, their logarithms
    do not.

    Returns:
        ``(N,)`` float32; N may be 0, and a sum over no rows still carries a (zero) gradient.
    """
    log_student = F.log_softmax(student.float() / temperature, dim=1)
    log_teacher = F.log_softmax(teacher.detach().float() / temperature, dim=1)
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=1)
