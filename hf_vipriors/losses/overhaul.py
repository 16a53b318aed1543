"""Overhaul feature distillation: what the student is held to, and where it is left alone.

References:
    [0] A Comprehensive Overhaul of Feature Distillation, https://arxiv.org/abs/1904.01866
    [1] Distilling Visual Priors from Self-Supervised Learning, https://arxiv.org/abs/2008.00261
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import _checks


def bn_margin(weight: Tensor, bias: Tensor) -> Tensor:
    r"""The margin of each channel, read off the batch norm before the ReLU [0].

    After batch norm a channel is close to a Gaussian with mean :math:`\mu` = bias and deviation
    :math:`\sigma` = \|weight\|; the margin is the mean of its negative part,

    .. math:: g = \mu - \sigma \frac{\phi(\mu / \sigma)}{\Phi(-\mu / \sigma)},

    and :math:`-3 \sigma` where that part is nearly empty (:math:`\Phi(-\mu / \sigma) \le 0.001`).

    Args:
        weight: ``(C,)`` scale of the batch norm.
        bias: ``(C,)`` shift of the batch norm.

    Returns:
        ``(C,)`` margins, all <= 0, float32, without gradient.

    Raises:
        ValueError: when the two are not vectors of one length.

    Example:
        >>> bn_margin(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 5.0]))
        tensor([-0.7979, -3.0000])
    """
    if weight.ndim != 1 or weight.shape != bias.shape:
        raise ValueError(f"weight {tuple(weight.shape)} and bias {tuple(bias.shape)} must be vectors of one length")
    # Float64: the quotient of two small tails loses digits in float32.
    mean = bias.detach().double()
    deviation = weight.detach().double().abs().clamp(min=1e-12)
    ratio = mean / deviation
    density = torch.exp(-0.5 * ratio**2) / math.sqrt(2 * math.pi)
    tail = torch.special.ndtr(-ratio)
    margin = mean - deviation * density / tail.clamp(min=1e-300)
    return torch.where(tail > 0.001, margin, -3 * deviation).float()


@_checks.in_float32
def partial_l2(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    r"""Squared distance of pre-activation maps, active only where the ReLU that follows can tell the difference.

    Per element, with s student, t teacher, g the channel's margin:

    ====================  ==================  =====================================================
    teacher               active             why
    ====================  ==================  =====================================================
    ``t > 0``             ``(s - t)^2``       the teacher fires: match it
    ``g < t <= 0``        ``(s - t)^2``       only where ``s > t``: below is silent all the same
    ``t <= g``            ``(s - g)^2``       only where ``s > g``: no need to go below the margin
    ====================  ==================  =====================================================

    Args:
        student: ``(B, C, H, W)`` map after the connector; gradients flow here.
        teacher: ``(B, C, H, W)`` map, treated as constant.
        margin: ``(C,)`` from :func:`bn_margin`.

    Returns:
        Scalar **sum** over all elements, float32: the method divides by the batch size and weighs the stages.

    Raises:
        ValueError: on mismatched shapes, an empty batch, NaN or infinity in the teacher.

    Example:
        >>> s = torch.tensor([1.0, 1.0, -9.0]).reshape(1, 1, 1, 3)
        >>> t = torch.tensor([3.0, -5.0, -0.5]).reshape(1, 1, 1, 3)
        >>> partial_l2(s, t, torch.tensor([-1.0]))  # (1-3)^2 + (1-(-1))^2 + 0
        tensor(8.)
    """
    if student.ndim != 4 or 0 in student.shape or student.shape != teacher.shape:
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must be equal (B, C, H, W) shapes"
        )
    if margin.shape != student.shape[1:2]:
        raise ValueError(f"margin has shape {tuple(margin.shape)}, the maps have {student.shape[1]} channels")
    _checks.finite(teacher, "teacher")
    student, teacher = student.float(), teacher.detach().float()
    target = torch.maximum(teacher, margin.detach().float()[None, :, None, None])
    active = (student > target) | (target > 0)
    return ((student - target).square() * active).sum()
