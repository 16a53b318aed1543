"""The report of a run: one table in the terminal, in Markdown, in JSON and on one self-contained page.

    report = Report("Fashion-VIPriors, 50 images per class", "quickstart, 3 seeds", rows=[RunRow(...), ...])
    console.print(rich_table(report))
    write_report(report, "outputs/quickstart")      # report.json, report.md, report.html

All numbers come from the rows; the verdict is worded from them by :func:`verdict_lines`, also when the method loses.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ..evaluation.knn import nearest_neighbours
from ..files import write_file, write_json
from .report_columns import optional_columns, paired_columns, published_column
from .report_figures import feature_map_2d
from .report_page import html
from .report_remarks import caveats
from .report_rows import Curve, Report, RowSummary, RunRow, summarise, verdict_lines
from .report_terminal import rich_table
from .report_text import (
    all_verdicts,
    confused_pairs,
    difference,
    difference_interval,
    interval,
    label_name,
    percent,
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
    "results_table",
    "rich_table",
    "summarise",
    "table_cells",
    "to_dict",
    "verdict_lines",
    "write_report",
]


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
    columns = published_column(rows) | optional_columns(rows, flat) | paired_columns(flat)
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
