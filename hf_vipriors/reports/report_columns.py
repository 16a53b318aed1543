"""The columns that a table of results has where its rows know something of them: heading -> what a row shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .report_rows import RowSummary, RunRow
from .report_text import NOTHING, duration, p_value, parameters, percent, published


def published_column(rows: Sequence[RunRow]) -> dict[str, Callable[[RunRow, RowSummary], str]]:
    """Of tables alone, and only where a row has such a figure."""
    return {"published %": lambda row, _: published(row.published)} if any(row.published for row in rows) else {}


def paired_columns(summaries: Sequence[RowSummary]) -> dict[str, Callable[[RunRow, RowSummary], str]]:
    """Columns of tables alone; in a terminal they would not fit."""
    columns = {}
    if any(summary.p_value is not None for summary in summaries):
        columns["McNemar p"] = lambda _, summary: p_value(summary.p_value)
    if any(summary.calibration_error is not None for summary in summaries):
        columns["ECE %"] = lambda _, summary: percent(summary.calibration_error)
    if any(summary.trials is not None for summary in summaries):
        columns["trials"] = lambda _, summary: NOTHING if summary.trials is None else str(summary.trials)
    return columns


def optional_columns(
    rows: Sequence[RunRow], summaries: Sequence[RowSummary]
) -> dict[str, Callable[[RunRow, RowSummary], str]]:
    columns = {}
    if any(summary.top5 is not None for summary in summaries):
        columns["top-5 %"] = lambda _, summary: percent(summary.top5)
    if len({summary.seeds for summary in summaries}) > 1:
        columns["seeds"] = lambda _, summary: str(summary.seeds)
    if any(summary.seconds is not None for summary in summaries):
        columns["time"] = lambda _, summary: duration(summary.seconds)
    if any(row.params is not None for row in rows):
        columns["params"] = lambda row, _: parameters(row.params)
    return columns
