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
    log_student = F.log_softmax(_from_the_largest(student) / temperature, dim=1)
    log_teacher = F.log_softmax(_from_the_largest(teacher.detach()) / temperature, dim=1)
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=1)


def _from_the_largest(logits: Tensor) -> Tensor:
    """Logits less the largest of their row, which changes no probability. After a division by a small temperature
    float32 would no longer hold what a logit of 1e4 has behind its point."""
    logits = logits.float()
    return logits - logits.detach().amax(dim=1, keepdim=True)
