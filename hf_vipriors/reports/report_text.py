"""How numbers are worded, the same in the terminal, in Markdown and on the page."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..evaluation.statistics import Interval
from .report_rows import Report, RowSummary, points, verdict_lines

# Sign, so that colour is never the only cue.
OUTCOMES = {"better": "▲", "worse": "▼", "unclear": "≈"}
NOTHING = "–"


def percent(fraction: float | None) -> str:
    """0.8261 -> '82.6'."""
    return NOTHING if fraction is None else points(fraction, sign=False)


def interval(ends: Interval | None) -> str:
    """(0.81, 0.842) -> '81.0 to 84.2'."""
    return NOTHING if ends is None else f"{percent(ends[0])} to {percent(ends[1])}"


def difference(summary: RowSummary) -> str:
    """'▲ +4.0', 'baseline' or nothing: the sign says whether the interval of the difference excludes zero."""
    if summary.baseline:
        return "baseline"
    if summary.difference is None:
        return NOTHING
    return f"{OUTCOMES[summary.outcome]} {points(summary.difference)}"


def difference_interval(summary: RowSummary) -> str:
    """'+1.6 to +6.4', or an empty text."""
    if summary.difference_interval is None:
        return ""
    low, high = summary.difference_interval
    return f"{points(low)} to {points(high)}"


def p_value(value: float | None) -> str:
    """0.0312 -> '0.031', 0.00004 -> '< 0.001'."""
    if value is None:
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def published(found: dict[str, Any] | None) -> str:
    """{"percent": 57.8, "source": "2108.13122"} -> '57.8 (2108.13122)'."""
    return NOTHING if found is None else f"{found['percent']:g} ({found['source']})"


def duration(seconds: float | None) -> str:
    """62.4 -> '62 s', 250 -> '4 min 10 s', 3725 -> '1 h 02 min'."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def parameters(count: int | None) -> str:
    """704_000 -> '0.70 M'."""
    if count is None:
        return NOTHING
    return f"{count / 1e6:.2f} M" if count < 1e7 else f"{count / 1e6:.1f} M"


def label_name(label: int | str, class_names: list[str]) -> str:
    """A class number as its name; a name stays; -1 is 'unlabelled'."""
    if isinstance(label, str):
        return label
    if label < 0:
        return "unlabelled"
    return class_names[label] if label < len(class_names) else f"class {label}"


def confused_pairs(report: Report, limit: int = 5) -> list[tuple[str, str, int, int]]:
    """The most frequent mistakes: (true class, predicted class, images, images of the true class), most first."""
    if report.confusion is None:
        return []
    counts = np.array(report.confusion)
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:limit]
    pairs = (np.unravel_index(place, counts.shape) for place in order)
    names = report.class_names
    return [
        (names[row], names[col], int(counts[row, col]), int(totals[row])) for row, col in pairs if counts[row, col]
    ]


def all_verdicts(report: Report) -> list[str]:
    """What the numbers say, then what the author added."""
    measured = verdict_lines(report)
    return measured + [line for line in report.verdict if line not in measured]
