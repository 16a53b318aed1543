"""What a report holds and what its numbers say: dataclasses, each row against the baseline, the verdict in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..evaluation.statistics import (
    Interval,
    difference_interval,
    mcnemar,
    mean_interval,
    paired_difference_interval,
    wilson_interval,
)


@dataclass
class RunRow:
    """One way of getting a classifier, measured once or with several seeds.

    Attributes:
        name: short and unique, such as "phase 1 + phase 2".
        note: one line on what was done.
        top1: one value a seed, fractions (0.826, not 82.6).
        top5: one value a seed, or None.
        test_images: how many images each value was measured on.
        seconds: wall time, one value a seed, or empty when it was not measured.
        params: number of parameters of the network that is evaluated.
        baseline: the row that all others are compared with; at most one.
        correct: per seed, whether each test image was right (bool, (test_images,)), same images in every row. Not
            needed; with it, the comparison of single runs is paired, hence sharper.
        metric: what ``top1`` holds. Anything but "top1" is no share of images and has no interval of a single run.
        calibration_error: expected calibration error, one value a seed, or None.
        trials: of the search for its settings, one value a seed, or None.
        p_values: McNemar's test against the baseline, one value a seed, or None.
        published: what a paper reports of such a run, ``percent`` and ``source``, or None.

    Raises:
        ValueError: what would make a wrong table: percent for fractions, lengths that differ, no value.
    """

    name: str
    note: str
    top1: list[float]
    top5: list[float] | None
    test_images: int
    seconds: list[float]
    params: int | None = None
    baseline: bool = False
    correct: Sequence[np.ndarray] | None = None
    metric: str = "top1"
    calibration_error: list[float] | None = None
    trials: list[int] | None = None
    p_values: list[float] | None = None
    published: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for values in (self.top1, self.top5 or []):
            if not all(0 <= value <= 1 for value in values):
                raise ValueError(f"{self.name}: accuracies are fractions within 0 and 1, got {values}")
        if not self.top1 or (self.top5 is not None and len(self.top5) != len(self.top1)):
            raise ValueError(
                f"{self.name}: one top-1 (and, where given, one top-5) a seed, got {self.top1}, {self.top5}"
            )
        if self.test_images < 1:
            raise ValueError(f"{self.name}: test_images must be at least 1, got {self.test_images}")
        shapes = [np.shape(predictions) for predictions in self.correct or []]
        if self.correct is not None and shapes != [(self.test_images,)] * len(self.top1):
            raise ValueError(f"{self.name}: `correct` needs {self.test_images} predictions a seed, got {shapes}")


@dataclass
class Curve:
    """A line to draw: values over steps, and the level that guessing would give.

    Raises:
        ValueError: no points, or two lengths.
    """

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    ylabel: str
    chance: float | None = None
    xlabel: str = "step"

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values) or len(self.steps) == 0:
            raise ValueError(f"curve {self.name}: {len(self.steps)} steps and {len(self.values)} values")


@dataclass
class Report:
    """Everything a report shows; whatever is left empty is left out of the page.

    Attributes:
        rows: the runs, in the order of the table.
        curves: one list a panel; the curves of a panel share its axes.
        confusion: (K, K) counts, row = true class.
        per_class: class name -> accuracy (None: no image of the class).
        feature_map: positions (N, 2) and labels (N,), see :func:`~hf_vipriors.reports.report.feature_map_2d`.
        neighbours: (query image, its label, [(image, label, cosine), ...]) each. Images are uint8 (H, W), (H, W, 1)
            or (H, W, 3); labels are class numbers (-1: unlabelled) or names.
        mistakes: (image, true label, predicted label, confidence) each, worst first.
        scored: what the images are that all rows share: "test", or "validation" where there is no test split.
        verdict: further lines for the verdict; what the numbers say is always worded first, by :func:`verdict_lines`.

    Raises:
        ValueError: two baselines, a name used twice, shapes that do not fit the class names.
    """

    title: str
    subtitle: str
    rows: list[RunRow]
    curves: list[list[Curve]] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    confusion: Sequence[Sequence[int]] | np.ndarray | None = None
    per_class: dict[str, float | None] | None = None
    feature_map: tuple[np.ndarray, Sequence[int]] | None = None
    neighbours: list[tuple] = field(default_factory=list)
    mistakes: list[tuple] = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    scored: str = "test"
    verdict: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    environment: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows]
        if len(set(names)) != len(names):
            raise ValueError(f"row names must differ, got {names}")
        if sum(row.baseline for row in self.rows) > 1:
            raise ValueError("only one row can be the baseline")
        classes = len(self.class_names)
        if self.confusion is not None and np.shape(self.confusion) != (classes, classes):
            raise ValueError(f"confusion is {np.shape(self.confusion)}, but there are {classes} class names")
        if self.feature_map is not None:
            positions, labels = self.feature_map
            if np.shape(positions) != (len(labels), 2):
                raise ValueError(f"feature map: positions {np.shape(positions)} for {len(labels)} labels")


@dataclass(frozen=True)
class RowSummary:
    """A row's numbers and its comparison with the baseline; fractions, None where there is nothing to say.

    Attributes:
        interval: 95 %: Wilson on the test images for one seed, Student's t over the seeds for several.
        difference: this row minus the baseline (several seeds: mean over the pairs).
        difference_interval: its 95 % interval, None when it cannot be had (unequal numbers of seeds).
        comparison: how that interval was made: "seeds", "paired images" or "separate images".
        p_value: exact McNemar test on the same images; of several seeds the largest.
        calibration_error, trials: mean and largest over the seeds.
    """

    name: str
    baseline: bool
    seeds: int
    top1: float
    interval: Interval | None
    top5: float | None
    seconds: float | None
    difference: float | None = None
    difference_interval: Interval | None = None
    comparison: str | None = None
    p_value: float | None = None
    calibration_error: float | None = None
    trials: int | None = None

    @property
    def outcome(self) -> str | None:
        """ "better" or "worse" when the interval of the difference excludes zero, "unclear" otherwise."""
        if self.difference is None:
            return None
        low, high = self.difference_interval or (-math.inf, math.inf)
        return "better" if low > 0 else "worse" if high < 0 else "unclear"


def summarise(report: Report) -> list[RowSummary]:
    """Every row's mean, interval and difference to the baseline, in the order of the rows."""
    baseline = next((row for row in report.rows if row.baseline), None)
    return [_summary(row, baseline) for row in report.rows]


def verdict_lines(report: Report) -> list[str]:
    """Say in plain words how each row stands to the baseline, and whether the interval excludes zero.

    Nothing is left out because it is unwelcome: a method that loses is said to lose.

    Example:
        >>> rows = [RunRow("supervised", "", [0.80], None, 2000, [], baseline=True),
        ...         RunRow("student", "", [0.84], None, 2000, [])]
        >>> print(verdict_lines(Report("t", "s", rows))[0])
        student beats supervised by 4.0 points (95 % interval +1.6 to +6.4, excludes zero).
    """
    summaries = summarise(report)
    baseline = next((summary for summary in summaries if summary.baseline), None)
    if baseline is None:
        return ["No supervised baseline was measured, so nothing here says whether the method helps."]
    others = [summary for summary in summaries if not summary.baseline]
    if not others:
        return [f"Only the baseline ({baseline.name}) was measured: there is nothing to compare."]
    return [_verdict(summary, baseline.name, baseline.seeds) for summary in others]


def points(fraction: float, *, sign: bool = True) -> str:
    """A fraction as percentage points with one decimal: 0.0123 -> '+1.2'. Never '-0.0'."""
    value = round(100 * fraction, 1) + 0.0
    return f"{value:+.1f}" if sign and value else f"{value:.1f}"


def _summary(row: RunRow, baseline: RunRow | None) -> RowSummary:
    seeds = len(row.top1)
    common = {
        "name": row.name,
        "baseline": row.baseline,
        "seeds": seeds,
        "top1": float(np.mean(row.top1)),
        "interval": _interval_of_seeds(row) if seeds > 1 else _single_interval(row),
        "top5": None if row.top5 is None else float(np.mean(row.top5)),
        "seconds": float(np.mean(row.seconds)) if len(row.seconds) else None,
        "calibration_error": None if row.calibration_error is None else float(np.mean(row.calibration_error)),
        "trials": None if row.trials is None else max(row.trials),
    }
    if baseline is None or row is baseline:
        return RowSummary(**common)
    return RowSummary(**common, **_compare(row, baseline))


def _compare(row: RunRow, baseline: RunRow) -> dict:
    differences = np.subtract(row.top1, baseline.top1) if len(row.top1) == len(baseline.top1) else None
    if differences is None:
        # Seeds that do not pair up: the means can be compared, their uncertainty cannot.
        return {"difference": float(np.mean(row.top1) - np.mean(baseline.top1)), **_largest_p_value(row)}
    found = {"difference": float(differences.mean()), **_largest_p_value(row)}
    if len(differences) > 1:
        interval = mean_interval(differences, resolution=1 / row.test_images if row.metric == "top1" else 0.0)
        return found | {"difference_interval": interval, "comparison": "seeds"}
    if row.correct is not None and baseline.correct is not None and row.test_images == baseline.test_images:
        predictions = row.correct[0], baseline.correct[0]
        return found | {
            "difference_interval": paired_difference_interval(*predictions),
            "comparison": "paired images",
            "p_value": mcnemar(*predictions),
        }
    if row.metric != "top1":
        return found
    interval = difference_interval(_right(row), row.test_images, _right(baseline), baseline.test_images)
    return found | {"difference_interval": interval, "comparison": "separate images"}


def _largest_p_value(row: RunRow) -> dict:
    return {"p_value": max(row.p_values)} if row.p_values else {}


def _single_interval(row: RunRow) -> Interval | None:
    return wilson_interval(_right(row), row.test_images) if row.metric == "top1" else None


def _interval_of_seeds(row: RunRow) -> Interval:
    low, high = mean_interval(row.top1)
    return max(0.0, low), min(1.0, high)


def _right(row: RunRow) -> int:
    return round(row.top1[0] * row.test_images)


def _verdict(summary: RowSummary, baseline: str, seeds: int) -> str:
    size = points(abs(summary.difference), sign=False)
    side = "above" if summary.difference > 0 else "below"
    where = f"level with {baseline}" if size == "0.0" else f"{size} points {side} {baseline}"
    if summary.difference_interval is None:
        why = "one seed each" if summary.seeds == seeds else "the numbers of seeds differ"
        return f"{summary.name} is {where}; {why}, so no interval and no conclusion."
    low, high = (points(end) for end in summary.difference_interval)
    if summary.outcome == "unclear":
        return f"{summary.name} is {where}; the 95 % interval ({low} to {high}) includes zero: no difference shown."
    word = "beats" if summary.outcome == "better" else "loses to"
    return f"{summary.name} {word} {baseline} by {size} points (95 % interval {low} to {high}, excludes zero)."
