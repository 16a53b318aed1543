"""What would be used otherwise (``--compare``): frozen features of a published network, logistic regression on top.

It is fitted on the same labelled images as a student and scored on the same images. Each network sees them as it wants
them: its own image size, crop, interpolation and statistics.
"""

from __future__ import annotations

import dataclasses
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .data import ImageSplits
from .evaluation.classification import ClassificationScore
from .evaluation.frozen import linear_score
from .hub.licence import licence_of
from .hub.teachers import Teacher, load_teacher
from .machine import to_device
from .reports.report_rows import Report, RowSummary, RunRow, summarise
from .reports.report_text import parameters
from .training import DataArguments
from .training.results import split_features

logger = logging.getLogger(__name__)
HELP = (
    "What you would use otherwise: frozen features of these networks (timm:NAME, a Hub id such as a DINOv2, a folder) "
    "and logistic regression on the same labels, on the same images."
)
_TIMED, _WARM_UP = 5, 1
_BYTES = 4  # of a parameter in float32


@dataclass(frozen=True)
class Footprint:
    """What a network costs.

    Attributes:
        params: number of parameters.
        milliseconds: of one image, the network alone.
    """

    params: int
    milliseconds: float

    @property
    def megabytes(self) -> float:
        """Of the parameters as float32."""
        return _BYTES * self.params / 1e6

    def beside(self, other: Footprint, name: str) -> str:
        """In words, against another network.

        Example:
            >>> Footprint(22_000_000, 120.0).beside(Footprint(700_000, 2.0), "student")
            '31 times the parameters of student, 60 times its time for an image'
        """
        size, duration = _times(self.params / other.params), _times(self.milliseconds / other.milliseconds)
        return f"{size} times the parameters of {name}, {duration} times its time for an image"


@dataclass(frozen=True)
class FrozenNetwork:
    """What frozen features and a logistic regression scored.

    Attributes:
        name: as it was given.
        licence: of the weights, see :func:`~hf_vipriors.hub.licence.licence_of`.
        image_size: side of the square images that it sees, pixels.
        footprint: of the parameters that the features depend on, and of the regression.
        cost: its C.
        chosen_on_target: C was chosen on the very images that are scored.
        result: the score.
        predicted, labels: class numbers of each image.
    """

    name: str
    licence: str
    image_size: int
    footprint: Footprint
    cost: float
    chosen_on_target: bool
    result: ClassificationScore
    predicted: np.ndarray
    labels: np.ndarray

    @property
    def title(self) -> str:
        """The name of its row."""
        return f"{self.name}, frozen"

    def row(self, more: str = "") -> RunRow:
        """It as a row of a report; ``more`` ends the note."""
        size = f"{parameters(self.footprint.params)} parameters ({self.footprint.megabytes:.1f} MB)"
        note = f"logistic regression on frozen features, {self.image_size} px, licence {self.licence}, {size}"
        if self.chosen_on_target:
            note += "; its C was chosen on these images, which flatters it a little"
        top5 = None if self.result.top5 is None else [self.result.top5]
        note += f"; {more}" if more else ""
        return RunRow(
            self.title, note, [self.result.top1], top5, self.result.count, [], self.footprint.params,
            correct=[self.predicted == self.labels],
        )  # fmt: skip

    def to_dict(self, summary: RowSummary) -> dict[str, Any]:
        """Plain values, with the comparison that a report made of its row."""
        return {
            "licence": self.licence,
            "image_size": self.image_size,
            "params": self.footprint.params,
            "megabytes": self.footprint.megabytes,
            "milliseconds": self.footprint.milliseconds,
            "cost": self.cost,
            "score": self.result.to_dict(),
            "difference": summary.difference,
            "difference_interval": list(summary.difference_interval or ()) or None,
            "p_value": summary.p_value,
            "outcome": summary.outcome,
        }


Compared = tuple[FrozenNetwork, RowSummary]


def best_of(compared: Sequence[Compared]) -> Compared | None:
    """Of the networks that are better than the baseline the one with the best top-1; of equal ones the smallest."""
    better = [pair for pair in compared if pair[1].outcome == "better"]
    return max(better, key=lambda pair: (pair[0].result.top1, -pair[0].footprint.params), default=None)


@dataclass(frozen=True)
class Comparison:
    """Frozen networks beside a baseline.

    Attributes:
        networks: what was measured.
        report: the baseline's row and one of each network, and in ``verdict`` a line for each, what follows.
    """

    networks: list[FrozenNetwork]
    report: Report

    @property
    def pairs(self) -> list[Compared]:
        """Each network with the summary of its row."""
        return list(zip(self.networks, summarise(self.report)[1:], strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, by the names that were given."""
        return {network.name: network.to_dict(summary) for network, summary in self.pairs}


def compare(
    networks: Sequence[FrozenNetwork],
    baseline: RunRow,
    subtitle: str,
    beside: tuple[str, Footprint],
    conclude: Callable[[list[Compared]], list[str]],
) -> Comparison:
    """Networks against a baseline on the same images, paired.

    Args:
        baseline: its row, with ``correct``.
        subtitle: of the report.
        beside: the student whose cost theirs is a multiple of, by name.
        conclude: what follows from the networks and their comparisons with the baseline, a sentence each.
    """
    name, size = beside
    baseline = dataclasses.replace(baseline, baseline=True)
    rows = [baseline, *(network.row(network.footprint.beside(size, name)) for network in networks)]
    report = Report("What you would use otherwise", subtitle, rows)
    found = Comparison(list(networks), report)
    report.verdict = conclude(found.pairs)
    return found


def load_networks(names: Sequence[str]) -> dict[str, Teacher]:
    """The networks of ``--compare``, by name.

    Raises:
        InputError: the weights of one are not there, see :func:`~hf_vipriors.hub.teachers.load_teacher`.
    """
    return {name: load_teacher(name, flag="compare") for name in names}


def measure_frozen(
    name: str, model: Teacher, splits: ImageSplits, data: DataArguments, split: str, *, batch_size: int, device: str
) -> FrozenNetwork:
    """Fit a logistic regression on frozen features of the labelled training images, and score it on ``split``.

    Args:
        name: as it was given.
        model: moved to ``device``, and back when it is done: the next one may need the room.
        splits: of which train, validation (which C) and ``split`` are read.
        data: how the images are read.

    Raises:
        InputError: features are not finite, or images cannot be read as ``data`` says.
    """
    to_device(model, device)
    config, classes = model.config, splits.class_names
    names = dict.fromkeys(("train", "validation", split))
    count = sum(len(splits.splits[each]) for each in names)
    logger.info("%s: features of %d images at %d px", name, count, config.image_size)
    found = split_features(model, splits, data, names, batch_size=batch_size, device=device)
    linear = linear_score(found["train"], found["validation"], found[split], classes)
    width = found["train"].values.shape[1]
    params = feature_parameters(model) + (width + 1) * len(classes)
    network = FrozenNetwork(
        name=name,
        licence=licence_of(name),
        image_size=config.image_size,
        footprint=Footprint(params, milliseconds(model)),
        cost=linear.cost,
        chosen_on_target=splits.splits[split] is splits.splits["validation"],
        result=linear.score,
        predicted=linear.predicted,
        labels=found[split].labels.numpy(),
    )
    to_device(model, "cpu")
    return network


def feature_parameters(model: Teacher) -> int:
    """How many parameters the pooled features depend on: all but those of a classifier or a projector.

    Args:
        model: in eval mode.

    Example:
        >>> from hf_vipriors.models import VipriorsConfig, VipriorsModel
        >>> config = VipriorsConfig.for_backbone("test_resnet", image_size=32, projector_dim=8)
        >>> model = VipriorsModel(config).eval()
        >>> feature_parameters(model) == sum(p.numel() for p in model.backbone.parameters())
        True
    """
    tensors = list(model.requires_grad_(True).parameters())
    gradients = torch.autograd.grad(model.features(_image(model)).sum(), tensors, allow_unused=True)
    return sum(tensor.numel() for tensor, gradient in zip(tensors, gradients, strict=True) if gradient is not None)


@torch.inference_mode()
def milliseconds(model: Teacher) -> float:
    """What one image takes where the model is, without reading it: the median of a few."""
    image, found = _image(model), []
    for _ in range(_WARM_UP + _TIMED):
        start = time.perf_counter()
        model.features(image).cpu()  # which waits for an accelerator
        found.append(1000 * (time.perf_counter() - start))
    return statistics.median(found[_WARM_UP:])


def _image(model: Teacher) -> torch.Tensor:
    side = model.config.image_size
    return torch.zeros(1, 3, side, side, device=model.device)


def _times(ratio: float) -> str:
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:,.0f}"
