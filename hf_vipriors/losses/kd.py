"""Knowledge distillation: the teacher's softened predictions as targets.

References:
    [0] Distilling the Knowledge in a Neural Network, https://arxiv.org/abs/1503.02531
    [1] Knowledge Distillation Meets Self-Supervision, https://arxiv.org/abs/2006.07114
"""

from __future__ import annotations

from torch import Tensor

from . import _checks
from ._divergence import row_divergence


@_checks.in_float32
def kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0) -> Tensor:
    r"""Divergence of the student's softened class probabilities from the teacher's [0].

    .. math:: L = T^2 \, KL(softmax(t / T) \,\|\, softmax(s / T))

    The factor :math:`T^2` keeps the size of the gradients as T changes, so a weight tuned beside a cross-entropy
    holds for every T.

    Args:
        student_logits: ``(B, C)``, raw; gradients flow here.
        teacher_logits: ``(B, C)``, raw, treated as constant; the same classes in the same order.
        temperature: T > 0. Default 4 [1].

    Returns:
        Scalar mean over the batch, float32.

    Raises:
        ValueError: on temperature <= 0, mismatched shapes, an empty batch, a single class, NaN or infinity in the
            teacher.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[4.0, 0.0, 0.0]])
        >>> kd(teacher + 1, teacher).item()  # a constant changes no probability
        0.0
        >>> round(kd(torch.zeros(1, 3), teacher).item(), 4)
        1.9726
    """
    _checks.positive(temperature, "temperature")
    _checks.logits(student_logits, teacher_logits)
    return temperature**2 * row_divergence(student_logits, teacher_logits, temperature).mean()
