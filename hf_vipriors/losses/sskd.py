"""Distillation with a self-supervised task beside the classes: recognising an image from its rotated copies.

Rows come in fours throughout: ``4i .. 4i + 3`` show image i turned by 0, 90, 180, 270 degrees, row ``4i`` is upright.

References:
    [0] Knowledge Distillation Meets Self-Supervision, https://arxiv.org/abs/2006.07114
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from . import _checks
from ._divergence import row_divergence
from .unit_rows import unit_rows

ROTATIONS = 4


class SskdLosses(NamedTuple):
    """What :func:`sskd` returns: the parts unweighted, and which of the 3B rotated rows taught.

    As row numbers in rising order; of :func:`masked_sskd` as ``(3B,)`` booleans.
    """

    total: Tensor
    ce: Tensor
    kd: Tensor
    tf: Tensor
    ss: Tensor
    kept_tf: Tensor
    kept_ss: Tensor


@_checks.in_float32
def pretext(projection: Tensor) -> Tensor:
    r"""The task that the teacher's self-supervision head learns: which upright image is this rotated one? [0]

    .. math:: L = -\frac{1}{3B} \sum_r \log \frac{e^{\cos(z_r, z_{u(r)})}}{\sum_{i=1}^{B} e^{\cos(z_r, z_i)}}

    with r the rotated rows, u(r) the upright row of the same image and i the upright rows of the batch. The cosines
    are not divided by a temperature: between 1 and -1 even a perfect head stays far from 0.

    Args:
        projection: ``(4B, D)`` output of the head, raw, rows in fours; gradients flow through all rows.

    Returns:
        Scalar mean over the 3B rotated rows, float32.

    Raises:
        ValueError: when the rows are not in fours or show fewer than two images.

    Example:
        >>> round(pretext(torch.eye(2).repeat_interleave(4, dim=0)).item(), 4)  # ln(1 + e^-1)
        0.3133
    """
    similarity = _similarity(projection, "projection")
    return F.cross_entropy(similarity, _own_image(similarity))


@_checks.in_float32
def sskd(
    student_logits: Tensor,
    student_projection: Tensor,
    teacher_logits: Tensor,
    teacher_projection: Tensor,
    labels: Tensor,
    *,
    weights: Sequence[float] = (0.1, 0.9, 2.7, 10.0),
    temperatures: Sequence[float] = (4.0, 4.0, 0.5),
    keep: Sequence[float] = (1.0, 0.75),
) -> SskdLosses:
    r"""Cross-entropy, and what the teacher knows of upright images, of rotated ones, and of their kinship [0].

    .. math:: L = w_1 CE + w_2 KD + w_3 TF + w_4 SS

    ====  ==================  ==========================================================
    part  rows                compared
    ====  ==================  ==========================================================
    CE    B upright           the student's logits with the labels
    KD    B upright           logits, student with teacher
    TF    rotated, selected   logits, student with teacher
    SS    rotated, selected   cosines to the B upright projections, student with teacher
    ====  ==================  ==========================================================

    Each comparison with the teacher is :math:`T^2 KL(teacher \| student)` of probabilities softened by its T, mean
    over its rows. Selected are all rotated rows on which the teacher is right, and of the others the share ``keep``
    whose right class (the label for TF, the own image for SS) ranks highest: a near miss still teaches something.

    Args:
        student_logits: ``(4B, C)``, rows in fours; gradients flow here.
        student_projection: ``(4B, D)`` output of the student's self-supervision head; gradients flow here.
        teacher_logits: ``(4B, C)``, treated as constant.
        teacher_projection: ``(4B, E)``, treated as constant; E may differ from D.
        labels: ``(B,)`` class of each image.
        weights: of CE, KD, TF, SS. Default (0.1, 0.9, 2.7, 10) [0].
        temperatures: of KD, TF, SS, each > 0. Default (4, 4, 0.5) [0].
        keep: share of the teacher's wrong rows kept in TF and SS, in [0, 1]. Default (1, 0.75) [0].

    Returns:
        :class:`SskdLosses`: ``total`` and the unweighted ``ce, kd, tf, ss``, float32 scalars (a part without any kept
        row is 0), and ``kept_tf, kept_ss``, row numbers among the 3B rotated rows.

    Raises:
        ValueError: on a temperature <= 0, a negative weight, a share outside [0, 1], mismatched shapes, rows that are
            not in fours, fewer than two images, a label out of range, NaN or infinity in the teacher.

    Example:
        >>> turned = torch.eye(2).repeat_interleave(4, dim=0)  # two images, each alike in its four rotations
        >>> losses = sskd(4 * turned, turned, 4 * turned, turned, torch.tensor([0, 1]))
        >>> round(losses.ce.item(), 4), losses.kd.item(), losses.ss.item()
        (0.0181, 0.0, 0.0)
        >>> losses.kept_tf  # the teacher is right on all six rotated rows
        tensor([0, 1, 2, 3, 4, 5])
    """
    options = {"weights": weights, "temperatures": temperatures, "keep": keep}
    found = masked_sskd(student_logits, student_projection, teacher_logits, teacher_projection, labels, **options)
    return found._replace(**{name: getattr(found, name).nonzero().squeeze(1) for name in ("kept_tf", "kept_ss")})


@_checks.in_float32
def masked_sskd(
    student_logits: Tensor,
    student_projection: Tensor,
    teacher_logits: Tensor,
    teacher_projection: Tensor,
    labels: Tensor,
    *,
    weights: Sequence[float],
    temperatures: Sequence[float],
    keep: Sequence[float],
) -> SskdLosses:
    """:func:`sskd`, whose ``kept_tf`` and ``kept_ss`` are ``(3B,)`` booleans.

    No shape here depends on a value: a training step does not wait until the device knows how many rows are kept.
    """
    _check_options(weights, temperatures, keep)
    _checks.logits(student_logits, teacher_logits)
    _checks.finite(teacher_projection, "teacher_projection")
    if not len(student_logits) == len(student_projection) == len(teacher_projection):
        raise ValueError(
            f"logits of {len(student_logits)} rows, a student's projection of {len(student_projection)} and a "
            f"teacher's of {len(teacher_projection)}: all must show the same rotated images"
        )
    student_similarity = _similarity(student_projection, "student_projection")
    teacher_similarity = _similarity(teacher_projection.detach(), "teacher_projection")
    _checks.labels(labels, len(student_logits) // ROTATIONS, student_logits.shape[1])

    student_upright, student_rotated = _apart(student_logits.float())
    teacher_upright, teacher_rotated = _apart(teacher_logits.detach().float())
    kept_tf = _selected(teacher_rotated, labels.repeat_interleave(ROTATIONS - 1), keep[0])
    kept_ss = _selected(teacher_similarity, _own_image(teacher_similarity), keep[1])
    ce = F.cross_entropy(student_upright, labels.long())
    kd = _distilled(student_upright, teacher_upright, temperatures[0])
    tf = _distilled(student_rotated, teacher_rotated, temperatures[1], kept_tf)
    ss = _distilled(student_similarity, teacher_similarity, temperatures[2], kept_ss)
    total = weights[0] * ce + weights[1] * kd + weights[2] * tf + weights[3] * ss
    return SskdLosses(total, ce, kd, tf, ss, kept_tf, kept_ss)


def _check_options(weights: Sequence[float], temperatures: Sequence[float], keep: Sequence[float]) -> None:
    if len(weights) != 4 or not all(weight >= 0 for weight in weights):
        raise ValueError(f"weights must be four numbers >= 0 (CE, KD, TF, SS), got {tuple(weights)}")
    if len(temperatures) != 3:
        raise ValueError(f"temperatures must be three numbers (KD, TF, SS), got {tuple(temperatures)}")
    for temperature in temperatures:
        _checks.positive(temperature, "temperatures")
    if len(keep) != 2 or not all(0 <= share <= 1 for share in keep):
        raise ValueError(f"keep must be two shares in [0, 1] (TF, SS), got {tuple(keep)}")


def _apart(rows: Tensor) -> tuple[Tensor, Tensor]:
    """``(4B, D)`` -> the B upright rows and the 3B rotated ones, in their order."""
    fours = rows.unflatten(0, (-1, ROTATIONS))
    return fours[:, 0], fours[:, 1:].flatten(0, 1)


def _similarity(projection: Tensor, name: str) -> Tensor:
    """``(3B, B)`` cosines of the rotated rows to the upright rows of the batch."""
    _checks.embeddings(projection, name)
    if len(projection) % ROTATIONS:
        raise ValueError(f"{name} must hold {ROTATIONS} rotations of each image, got {len(projection)} rows")
    if len(projection) < 2 * ROTATIONS:
        raise ValueError(f"{name} must show at least 2 images: with one there is no other to mistake it for")
    upright, rotated = _apart(unit_rows(projection))
    return rotated @ upright.T


def _own_image(similarity: Tensor) -> Tensor:
    """``(3B,)`` the column that is right for each row of :func:`_similarity`."""
    return torch.arange(similarity.shape[1], device=similarity.device).repeat_interleave(ROTATIONS - 1)


def _selected(scores: Tensor, answer: Tensor, share: float) -> Tensor:
    """Rows worth learning from: all where ``answer`` scores highest, and ``share`` of the others, best rank first."""
    right = scores.gather(1, answer[:, None])
    earlier = torch.arange(scores.shape[1], device=scores.device) < answer[:, None]
    # Equal scores rank by column: a teacher that answers everything alike is then not right everywhere.
    rank = ((scores > right) | ((scores == right) & earlier)).sum(dim=1)
    wrong = (rank > 0).sum()
    # In float64 the product rounds as Python's does; Apple's devices have none.
    exact = torch.float32 if scores.device.type == "mps" else torch.float64
    kept = len(rank) - wrong + (wrong.to(exact) * share).long()
    place = torch.argsort(torch.argsort(rank, stable=True))
    return place < kept


def _distilled(student: Tensor, teacher: Tensor, temperature: float, kept: Tensor | None = None) -> Tensor:
    """Mean over the rows kept; 0, with a gradient of zeros, when there is none."""
    rows = temperature**2 * row_divergence(student, teacher, temperature)
    return rows.mean() if kept is None else (rows * kept).sum() / kept.sum().clamp(min=1)
