"""The page of a table: every group with its intervals, the plots, and images of the first seed's runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from ..errors import InputError, one_line
from ..evaluation.predictions import read_predictions
from ..files import read_json
from ..reports.model_figures import learning_curves, reliability_diagram
from ..reports.page import Section, drawing, minus, sections_page
from ..reports.page import table as html_table
from ..reports.report import Report, summarise, table_cells, verdict_lines
from ..reports.report_figures import confusion_figure
from ..reports.table_figures import group_figure, plot_figures
from ..training.run_files import log_history
from .table_files import METRIC_WORDS, remarks
from .table_results import report
from .tables import Table

FolderOf = Callable[[int, str], Path]
# More lines in one image cannot be told apart, more diagrams not taken in.
LINES, DIAGRAMS = 8, 6
HOW_RESULTS = (
    "The mark is the mean over the seeds, the bar its 95 % interval, the dashed line the baseline. A difference "
    "counts only when its interval leaves out zero: ▲ better, ▼ worse, ≈ no difference shown."
)


def table_page(found: dict[str, Any], images: list[Section] | None = None) -> str:
    """A self-contained page, drawn from what results.json holds.

    Args:
        found: what results.json holds.
        images: sections of :func:`run_sections`, where the runs' folders are at hand.
    """
    reports = [report(group["title"], group["rows"]) for group in found["groups"]]
    head, cells = table_cells(reports) if reports else ([], [])
    sections = []
    for number, (group, each, lines) in enumerate(zip(found["groups"], reports, cells, strict=True)):
        rows = [[_named(row), *line] for row, line in zip(group["rows"], lines, strict=True)]
        figure = drawing(group_figure(group), f"group{number}", "; ".join(verdict_lines(each)))
        results = html_table(head, rows) + _verdict(each)
        sections.append(Section(group["title"], _how(group, first=number == 0), [results, figure], wide=True))
    drawn = [drawing(figure, name, title) for name, (title, figure) in plot_figures(found).items()]
    sections += [Section("Plots", "", drawn), *(images or [])]
    versions = html_table(["package", "version"], list(found.get("versions", {}).items()))
    sections.append(Section("Made with", "Versions of what decides a number.", [versions]))
    seeds = found["seeds"]
    start = f"Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}."
    read = remarks(found, reports) if reports else ["No row shows these runs."]
    return sections_page(found["title"], " ".join([start, *read]), sections)


def _verdict(found: Report) -> Markup:
    """What each row shows, with the sign of its outcome."""
    outcomes = [summary.outcome for summary in summarise(found) if summary.outcome is not None]
    lines = verdict_lines(found)
    signs = outcomes if len(outcomes) == len(lines) else ["note"] * len(lines)
    item = Markup('<li class="{}">{}</li>')
    said = [item.format(sign, minus(line)) for sign, line in zip(signs, lines, strict=True)]
    return Markup('<ul class="verdict">{}</ul>').format(Markup("").join(said))


def _named(row: dict[str, Any]) -> Markup:
    note = Markup("<small>{}</small>").format(row["note"]) if row["note"] else ""
    return Markup("{}{}").format(row["name"], note)


def _how(group: dict[str, Any], *, first: bool) -> str:
    metric = METRIC_WORDS.get(group["rows"][0].get("metric", "top1"), "")
    return ". ".join(part for part in (group["about"].rstrip("."), metric, HOW_RESULTS if first else "") if part)


def run_sections(table: Table, found: dict[str, Any], seed: int, folder_of: FolderOf) -> list[Section]:
    """Images of one seed's runs, by group: learning curves, reliability, confusions. What lacks data is left out.

    Args:
        table: what was run.
        found: its results.
        seed: whose runs.
        folder_of: seed and name of a run -> its folder.
    """
    shown = {row["run"] for group in table.groups for row in group["rows"]}
    before = {run.name: folder_of(seed, run.name) for run in table.runs if run.name not in shown}
    how = f"Seed {seed}. A dashed chance level is what guessing would score."
    sections = [Section("Runs that others start from", how, _curves(before, "before"), wide=True)]
    drawn: list[set[Path]] = []
    for number, group in enumerate(found["groups"]):
        rows = {row["name"]: folder_of(seed, row["run"]) for row in group["rows"]}
        if set(rows.values()) in drawn:  # the same runs by another score
            continue
        drawn.append(set(rows.values()))
        tested = {row["name"]: rows[row["name"]] for row in _notable(group["rows"]) if row["score"] == "test"}
        cards = [*_curves(rows, f"curves{number}"), *_reliability(tested, f"reliability{number}")]
        sections.append(Section(f"{group['title']}: the runs", how, cards, wide=True))
        pair = dict(list(tested.items())[:2])
        title = f"{group['title']}: which confusions"
        sections.append(Section(title, f"Seed {seed}.", _confusions(pair, f"confusion{number}")))
    return sections


def _notable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The baseline first, then the others, best first."""
    return sorted(rows, key=lambda row: (not row["baseline"], -row["summary"]["mean"]))


def _curves(folders: dict[str, Path], name: str) -> list[Markup]:
    histories, chance, classes = {}, {}, None
    for run, folder in folders.items():
        metrics = folder / "metrics.json"
        if (history := log_history(folder)) and metrics.is_file():
            histories[run] = history
            measured = read_json(metrics)
            if measured.get("chance_level") is not None:
                chance[run] = measured["chance_level"]
            classes = next((len(score["per_class"]) for score in _scores(measured)), classes)
    cards = []
    for start in range(0, len(histories), LINES):
        part = dict(list(histories.items())[start : start + LINES])
        levels = {run: level for run, level in chance.items() if run in part}
        figure = learning_curves(part, chance=levels, classes=classes)
        if figure is not None:
            cards.append(drawing(figure, f"{name}-{start}", f"Learning curves of {', '.join(part)}"))
    return cards


def _scores(measured: dict[str, Any]) -> list[dict[str, Any]]:
    return [measured[name] for name in ("test", "knn") if name in measured]


def _reliability(folders: dict[str, Path], name: str) -> list[Markup]:
    predictions = {}
    for run, folder in list(folders.items())[:DIAGRAMS]:
        try:
            found = read_predictions(folder)
        except ValueError as error:
            raise InputError(f"{one_line(error, None)}: remove {folder} to run it again") from None
        if found is not None:
            predictions[run] = (found.values.numpy(), found.labels.numpy())
    if not predictions:
        return []
    return [drawing(reliability_diagram(predictions), name, f"How sure and how right: {', '.join(predictions)}")]


def _confusions(folders: dict[str, Path], name: str) -> list[Markup]:
    cards = []
    for number, (run, folder) in enumerate(folders.items()):
        score = read_json(folder / "metrics.json")["test"]
        if score.get("confusion") is not None:
            figure = confusion_figure(np.asarray(score["confusion"]), list(score["per_class"]))
            title = Markup('<p class="how">{}</p>').format(run)
            cards.append(title + drawing(figure, f"{name}-{number}", f"Confusion matrix of {run}"))
    return cards
