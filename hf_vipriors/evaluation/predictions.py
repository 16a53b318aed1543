"""A finished student's predictions on its test images, kept beside it: for paired tests, calibration and images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import InputError, one_line
from ..files import replacing, save_tensors
from .calibration import are_probabilities
from .features import Outputs

PREDICTIONS_FILE = "answers.safetensors"


def write_predictions(directory: Path | str, probabilities: Tensor, labels: Tensor) -> None:
    """Keep class probabilities as ``answers.safetensors``, whole or not at all.

    They are rounded to float16 (an error below 0.0003; below 0.0007 where that made a tie, which is undone). The best
    class of an image stays its best class, so that top-1 can be counted again from the file.

    Args:
        directory: the student's folder; it must exist. A file of the same name is replaced.
        probabilities: (N, K), rows that sum to 1.
        labels: (N,) integers in 0..K-1, the true classes, in the same order.

    Raises:
        ValueError: wrong shapes, rows that are not probabilities, or a label out of range.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_predictions(folder, torch.tensor([[0.25, 0.75]]), torch.tensor([1]))
        ...     read_predictions(folder).values
        tensor([[0.2500, 0.7500]])
    """
    values, labels = probabilities.detach().cpu().float(), labels.detach().cpu().long()
    _check(values, labels)
    path = Path(directory) / PREDICTIONS_FILE
    with replacing(path) as part:
        save_tensors({"probabilities": _rounded(values), "labels": labels.contiguous()}, part)


def read_predictions(directory: Path | str) -> Outputs | None:
    """What :func:`write_predictions` kept, or None where a folder has no such file.

    Returns:
        A :class:`~hf_vipriors.evaluation.features.Outputs`: ``values`` (N, K) float32, ``labels`` (N,) int64.

    Raises:
        InputError: the file is damaged.
    """
    path = Path(directory) / PREDICTIONS_FILE
    if not path.is_file():
        return None
    try:
        found = load_file(path)
        values, labels = found["probabilities"].float(), found["labels"]
        _check(values, labels)
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path} is damaged: {one_line(error)}") from None
    return Outputs(values, labels)


def _rounded(values: Tensor) -> Tensor:
    """float16; where rounding made a tie that another class wins, the best one gets a step more."""
    best, rounded = values.argmax(dim=1), values.half()
    lost = (rounded.argmax(dim=1) != best).nonzero().squeeze(1)
    if len(lost):
        winners = rounded[lost, best[lost]].numpy()
        rounded[lost, best[lost]] = torch.from_numpy(np.nextafter(winners, np.float16(2)))
    return rounded.contiguous()


def _check(values: Tensor, labels: Tensor) -> None:
    if values.ndim != 2 or values.numel() == 0 or labels.shape != values.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(f"expected probabilities (N, K) and labels (N,), got {tuple(values.shape)}, {labels.shape}")
    if not are_probabilities(values.numpy()):
        raise ValueError("rows are not probabilities (>= 0, sum 1)")
    if labels.min() < 0 or labels.max() >= values.shape[1]:
        raise ValueError(f"labels must lie in 0..{values.shape[1] - 1}, found {labels.min()}..{labels.max()}")
