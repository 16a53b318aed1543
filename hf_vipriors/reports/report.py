"""The report of a run: one table in the terminal, in Markdown, in JSON and on one self-contained page.

    report = Report("Fashion-VIPriors, 50 images per class", "quickstart, 3 seeds", rows=[RunRow(...), ...])
    console.print(rich_table(report))
    write_report(report, "outputs/quickstart")      # report.json, report.md, report.html

All numbers come from the rows; the verdict is worded from them by :func:`verdict_lines`, also when the method loses.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.table import Table
from rich.text import Text

from ..evaluation.knn import nearest_neighbours
from ..files import write_file, write_json
from ..terminal import printable
from .report_figures import feature_map_2d
from .report_page import html
from .report_rows import Curve, Report, RowSummary, RunRow, caveats, no_test_split, reading, summarise, verdict_lines
from .report_text import (
    NOTHING,
    all_verdicts,
    confused_pairs,
    difference,
    difference_interval,
    duration,
    interval,
    label_name,
    p_value,
    parameters,
    percent,
    published,
)

__all__ = [
    "Curve",
    "Report",
    "RowSummary",
    "RunRow",
    "caveats",
    "feature_map_2d",
    "grouped_table",
    "html",
    "markdown",
    "nearest_neighbours",
    "no_test_split",
    "reading",
    "results_table",
    "rich_table",
    "summarise",
    "table_cells",
    "to_dict",
    "verdict_lines",
    "write_report",
]

_STYLES = {"better": "green", "worse": "red", "unclear": "yellow", None: ""}
_LEAST_NAME = 14  # letters of a row's name in one line
# Columns that a narrow terminal does not get, in this order.
_LEFT_OUT_FIRST = ("params", "time", "top-5 %", "seeds")


def rich_table(report: Report) -> ConsoleRenderable:
    """The results for a terminal, with the verdict and how to read it below; 80 columns suffice.

    In fewer the columns that matter least are left out, and named.
    """
    return _Fitted(report)


class _Fitted:
    """The table of a report, in as many columns as a terminal has room for."""

    def __init__(self, report: Report):
        self.report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left_out: list[str] = []
        table = _terminal_table(self.report, left_out)
        for heading in _LEFT_OUT_FIRST:
            if _least_width(table, self.report, console) <= options.max_width:
                break
            if heading in (column.header for column in table.columns):
                left_out.append(heading)
                table = _terminal_table(self.report, left_out)
        yield table


def _least_width(table: Table, report: Report, console: Console) -> int:
    """What it needs: names may be folded, numbers not, and Rich would take their room from the names."""
    anywhere = console.options.update_width(10_000)
    longest = max((cell_len(printable(row.name)) for row in report.rows), default=0)
    return console.measure(table, options=anywhere).maximum - max(0, longest - _LEAST_NAME)


def _terminal_table(report: Report, left_out: Sequence[str]) -> Table:
    summaries = summarise(report)
    notes = [Text(f"{row.name}: {row.note}", style="dim") for row in report.rows if row.note]
    narrow = [Text(f"Left out, as the terminal is narrow: {', '.join(left_out)}.", style="dim")] if left_out else []
    footer = Text("\n").join(
        [Text(f"• {line}") for line in all_verdicts(report)]
        + [
            Text("\nWhat was run, and how to read it", style="bold"),
            *notes,
            *(Text(line, style="dim") for line in caveats(report)),
            *narrow,
        ]
    )
    title = Text(report.title, style="bold").append(f"\n{report.subtitle}", style="not bold dim")
    style = {"box": box.SIMPLE_HEAD, "title_style": "", "caption_style": "", "pad_edge": False}
    table = Table(title=title, title_justify="left", caption=footer, caption_justify="left", **style)
    table.add_column("run", min_width=_LEAST_NAME, overflow="fold")
    table.add_column("top-1 %\n95 % interval", justify="right", no_wrap=True)
    columns = {name: cell for name, cell in _optional_columns(report.rows, summaries).items() if name not in left_out}
    compare = any(summary.difference is not None for summary in summaries)
    if compare:
        table.add_column("to baseline\n95 % interval", justify="right", no_wrap=True)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row, summary in zip(report.rows, summaries, strict=True):
        top1 = Text(percent(summary.top1), style="bold")
        cells = [
            Text(printable(row.name), style="bold"),
            top1.append(f"\n{interval(summary.interval)}", style="not bold"),
        ]
        if compare:
            text = f"{difference(summary)}\n{difference_interval(summary)}"
            cells.append(Text(text, style=_STYLES[summary.outcome]))
        table.add_row(*cells, *(column(row, summary) for column in columns.values()), end_section=row.baseline)
    return table


def results_table(report: Report) -> str:
    """The rows of the report as one GitHub Markdown table."""
    return grouped_table([("", report)])


def grouped_table(groups: Sequence[tuple[str, Report]]) -> str:
    """Several reports as one GitHub Markdown table, each below its heading, all in the same columns.

    Args:
        groups: heading (Markdown; an empty one has no line) and report.
    """
    head, cells = table_cells([report for _, report in groups])
    body = []
    for (heading, report), lines in zip(groups, cells, strict=True):
        if heading:
            body.append([heading])
        for row, line in zip(report.rows, lines, strict=True):
            body.append([f"**{_cell(row.name)}**" + (f"<br>{_cell(row.note)}" if row.note else ""), *map(_cell, line)])
    return _table(head, body, numbers_from=1)


def table_cells(reports: Sequence[Report]) -> tuple[list[str], list[list[list[str]]]]:
    """Column headings, the first of which is that of the rows' names, and per report and row the other columns."""
    summaries = [summarise(report) for report in reports]
    rows, flat = [row for report in reports for row in report.rows], [s for found in summaries for s in found]
    columns = _published_column(rows) | _optional_columns(rows, flat) | _paired_columns(flat)
    cells = [
        [
            [
                percent(summary.top1),
                interval(summary.interval),
                difference(summary),
                difference_interval(summary),
                *(column(row, summary) for column in columns.values()),
            ]
            for row, summary in zip(report.rows, found, strict=True)
        ]
        for report, found in zip(reports, summaries, strict=True)
    ]
    return ["run", "top-1 %", "95 % interval", "points to the baseline", "95 % interval", *columns], cells


def markdown(report: Report) -> str:
    """The report as GitHub Markdown: verdict, table, classes, settings, commands, environment; no images."""
    parts = [f"# {report.title}", report.subtitle, "## Verdict", _bullets(all_verdicts(report))]
    parts += ["## Results", results_table(report), *caveats(report)]
    if report.per_class:
        known = sorted((value, name) for name, value in report.per_class.items() if value is not None)
        parts += [
            "## Classes, worst first",
            _table(["class", "accuracy %"], [[_cell(n), percent(v)] for v, n in known]),
        ]
    pairs = confused_pairs(report)
    if pairs:
        lines = [f"{true} taken for {predicted}: {count} of {total}" for true, predicted, count, total in pairs]
        parts += ["## Most frequent confusions", _bullets(lines)]
    for heading, values in (("Settings", report.settings), ("Environment", report.environment)):
        if values:
            body = [[_cell(key), _cell(value)] for key, value in values.items()]
            parts += [f"## {heading}", _table(["name", "value"], body, numbers_from=2)]
    if report.commands:
        parts += ["## Commands", "```bash\n" + "\n".join(report.commands) + "\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_dict(report: Report) -> dict:
    """Every number of the report as plain JSON types (no images); a value that is not finite becomes None."""
    rows = []
    for row, summary in zip(report.rows, summarise(report), strict=True):
        measured = {key: value for key, value in vars(row).items() if key != "correct"}
        rows.append({**measured, "summary": {**asdict(summary), "outcome": summary.outcome}})
    positions, labels = report.feature_map if report.feature_map is not None else (None, None)
    names = report.class_names
    return _plain(
        {
            "title": report.title,
            "subtitle": report.subtitle,
            "verdict": all_verdicts(report),
            "caveats": caveats(report),
            "rows": rows,
            "curves": [[vars(curve) for curve in panel] for panel in report.curves],
            "class_names": names,
            "confusion": report.confusion,
            "per_class": report.per_class,
            "feature_map": None if labels is None else {"positions": positions, "labels": labels},
            "neighbours": [
                {
                    "query": label_name(label, names),
                    "found": [{"label": label_name(found, names), "cosine": cosine} for _, found, cosine in near],
                }
                for _, label, near in report.neighbours
            ],
            "mistakes": [
                {"true": label_name(true, names), "predicted": label_name(guess, names), "confidence": confidence}
                for _, true, guess, confidence in report.mistakes
            ],
            "settings": report.settings,
            "commands": report.commands,
            "environment": report.environment,
        }
    )


def write_report(report: Report, directory: str | os.PathLike) -> dict[str, Path]:
    """Write report.json, report.md and report.html into ``directory`` (made if need be).

    The numbers come first and the images last, and every file appears whole or not at all: should drawing fail
    after hours of training, the measurements are on disk.

    Returns:
        {"json": path, "markdown": path, "html": path}.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "json": write_json(folder / "report.json", to_dict(report), allow_nan=False),
        "markdown": write_file(folder / "report.md", markdown(report)),
        "html": write_file(folder / "report.html", html(report)),
    }


def _published_column(rows: Sequence[RunRow]) -> dict[str, Callable[[RunRow, RowSummary], str]]:
    """Of tables alone, and only where a row has such a figure."""
    return {"published %": lambda row, _: published(row.published)} if any(row.published for row in rows) else {}


def _paired_columns(summaries: Sequence[RowSummary]) -> dict[str, Callable[[RunRow, RowSummary], str]]:
    """Columns of tables alone; in a terminal they would not fit."""
    columns = {}
    if any(summary.p_value is not None for summary in summaries):
        columns["McNemar p"] = lambda _, summary: p_value(summary.p_value)
    if any(summary.calibration_error is not None for summary in summaries):
        columns["ECE %"] = lambda _, summary: percent(summary.calibration_error)
    if any(summary.trials is not None for summary in summaries):
        columns["trials"] = lambda _, summary: NOTHING if summary.trials is None else str(summary.trials)
    return columns


def _optional_columns(
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


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: list[str], body: list[list[str]], numbers_from: int = 1) -> str:
    rule = ["---" if column < numbers_from else "---:" for column in range(len(head))]
    # A line of one cell is a heading: the other cells stay empty.
    return "\n".join("| " + " | ".join(cells) + " |" * (1 + len(head) - len(cells)) for cells in [head, rule, *body])
