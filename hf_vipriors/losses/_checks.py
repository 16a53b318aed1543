"""Refuse the inputs that would train silently wrong; run every loss in float32 whatever autocast says."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def in_float32(loss: Callable[P, R]) -> Callable[P, R]:
    """Decorate a loss so that autocast is off inside it; the loss itself casts its inputs with ``.float()``.

    In bf16 a difference of two cosines near 1 has two significant digits, and exp(cos / T) loses them all.
    """

    @functools.wraps(loss)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        with torch.autocast(tensors[0].device.type if tensors else "cpu", enabled=False):
            return loss(*args, **kwargs)

    return wrapper


def readable(tensor: Tensor) -> bool:
    """Whether a look at the values is free: an accelerator would have to finish all its work first, every step, and a
    compiled graph would break in two. There a NaN is noticed in the loss that it makes of every loss."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def positive(value: float, name: str) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be > 0, got {value}")


def embeddings(tensor: Tensor, name: str, like: Tensor | None = None) -> None:
    """``tensor`` is a non-empty ``(B, D)`` of floats; with ``like``, of exactly the same shape."""
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise ValueError(f"{name} must be a non-empty (B, D) matrix, got shape {tuple(tensor.shape)}")
    if not tensor.is_floating_point():  # of complex ones .float() drops half without an error
        raise ValueError(f"{name} must be floats, got {tensor.dtype}")
    if like is not None and tensor.shape != like.shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {tuple(like.shape)}")


def logits(student: Tensor, teacher: Tensor) -> None:
    """Two non-empty ``(B, C)`` of one shape, over at least two classes."""
    embeddings(student, "student_logits")
    embeddings(teacher, "teacher_logits", like=student)
    if student.shape[1] < 2:
        raise ValueError("logits need at least 2 classes: over a single one every softmax is 1 and nothing is learnt")
    finite(teacher, "teacher_logits")


def labels(tensor: Tensor, count: int, classes: int) -> None:
    """``(count,)`` integers in [0, classes); their values where they are readable."""
    if tensor.shape != (count,):
        raise ValueError(f"labels have shape {tuple(tensor.shape)}, expected ({count},)")
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(f"labels must be integers, got {tensor.dtype}")
    if readable(tensor) and (tensor.min() < 0 or tensor.max() >= classes):
        raise ValueError(f"labels must lie in [0, {classes}), got {tensor.min().item()} to {tensor.max().item()}")


def finite(tensor: Tensor, name: str) -> None:
    """A teacher with a NaN poisons its student without any error of its own; looked for where it is readable."""
    if readable(tensor) and not torch.isfinite(tensor).all():
        raise ValueError(f"{name} holds NaN or infinity")
