"""Hints: a map in the middle of the teacher as a target for the student.

References:
    [0] FitNets: Hints for Thin Deep Nets, https://arxiv.org/abs/1412.6550
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from . import _checks


@_checks.in_float32
def fitnet(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    r"""Mean squared error between the student's map, after a regressor, and the teacher's [0].

    .. math:: L = \frac{1}{B C H W} \sum (r(s) - t)^2

    The regressor r, which brings the student's channels to the teacher's, belongs to the method. NOTE [0] writes half
    the sum over the elements; the mean does not depend on the size of the maps.

    Args:
        student_map: ``(B, C, H, W)`` after the regressor; gradients flow here.
        teacher_map: ``(B, C, H, W)``, treated as constant.

    Returns:
        Scalar mean over all elements, float32.

    Raises:
        ValueError: on mismatched shapes (they would broadcast), an empty batch, NaN or infinity in the teacher.

    Example:
        >>> import torch
        >>> fitnet(torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 2.0))
        tensor(4.)
    """
    if student_map.ndim != 4 or 0 in student_map.shape or student_map.shape != teacher_map.shape:
        raise ValueError(
            f"student_map {tuple(student_map.shape)} and teacher_map {tuple(teacher_map.shape)} must be equal, "
            "non-empty (B, C, H, W) shapes"
        )
    _checks.finite(teacher_map, "teacher_map")
    return F.mse_loss(student_map.float(), teacher_map.detach().float())
