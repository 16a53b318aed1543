"""Tables of runs: what a YAML file asks for, and the figures of finished runs as JSON and Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError, nearest
from ..evaluation.report import Report, RunRow, caveats, results_table, verdict_lines
from ..evaluation.report_rows import summarise
from . import wiring

REFERENCE = re.compile(r"\{(\w+)\}")
ROW_KEYS = ("name", "run", "score", "note", "baseline")


@dataclass(frozen=True)
class TableRun:
    """One run: a job, a recipe, and options, in which ``{other}`` stands for another run's folder."""

    name: str
    job: str
    recipe: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def uses(self) -> list[str]:
        """Names of the runs whose folders its options name."""
        return [n for v in self.options.values() if isinstance(v, str) for n in REFERENCE.findall(v)]

    def options_with(self, folders: dict[str, str]) -> dict[str, Any]:
        return {
            name: REFERENCE.sub(lambda found: folders[found[1]], value) if isinstance(value, str) else value
            for name, value in self.options.items()
        }


@dataclass(frozen=True)
class Table:
    """A table: runs in the order they are made, and groups of rows, each with its own baseline."""

    name: str
    title: str
    runs: list[TableRun]
    groups: list[dict[str, Any]]

    def only(self, names: Sequence[str]) -> Table:
        """These runs and all they use; groups and rows that show none of them are left out.

        Raises:
            InputError: a name that no run has.
        """
        wanted = set(names)
        for name in names:
            if name not in {run.name for run in self.runs}:
                raise InputError(f"--runs {name}: {nearest(name, [run.name for run in self.runs])}")
        for run in reversed(self.runs):  # a run uses only runs above it
            if run.name in wanted:
                wanted.update(run.uses)
        groups = [{**g, "rows": [row for row in g["rows"] if row["run"] in wanted]} for g in self.groups]
        runs = [run for run in self.runs if run.name in wanted]
        return replace(self, runs=runs, groups=[group for group in groups if group["rows"]])


def read_table(name: str, folder: Path, jobs: Sequence[str]) -> Table:
    """The table of a name in ``folder``, or of a YAML file.

    Raises:
        InputError: no such file, or one that asks for what does not exist.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(each.stem for each in folder.glob("*.yaml"))
        raise InputError(f"no table {path}: {nearest(name, known)}")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        runs = [TableRun(run, **settings) for run, settings in found["runs"].items()]
        table = Table(path.stem, found["title"], runs, found["groups"])
        for run in runs:
            _ = run.uses  # options that are no options
        for group in table.groups:  # two rows of one name, two baselines
            _report(group["title"], [_described(row) | {"top1": [0.0], "test_images": 1} for row in group["rows"]])
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"table {path} cannot be read: {type(error).__name__} {' '.join(str(error).split())}"
        ) from None
    _check(table, path, jobs)
    return table


def _check(table: Table, path: Path, jobs: Sequence[str]) -> None:
    made: list[str] = []
    for run in table.runs:
        if run.job not in jobs:
            raise InputError(f"table {path}: run {run.name} has the job {run.job!r}: {nearest(str(run.job), jobs)}")
        for other in run.uses:
            if other not in made:
                raise InputError(f"table {path}: run {run.name} uses {other!r}, which is not made before it")
        made.append(run.name)
    rows = [row for group in table.groups for row in group["rows"]]
    if not rows:
        raise InputError(f"table {path} has no rows")
    for row in rows:
        if row["run"] not in made:
            raise InputError(f"table {path}: a row shows the run {row['run']!r}: {nearest(str(row['run']), made)}")
        for key in row.keys() - set(ROW_KEYS):
            raise InputError(f"table {path}: row {row['name']!r} has a {key!r}: {nearest(str(key), ROW_KEYS)}")


def results(table: Table, seeds: Sequence[int], folder_of: Callable[[int, str], Path]) -> dict[str, Any]:
    """Every figure of the table as plain JSON types: per row one top-1 a seed, the mean, intervals, the difference."""
    groups = []
    for group in table.groups:
        rows = [
            _row(row, [wiring.read_json(folder_of(s, row["run"]) / "metrics.json") for s in seeds])
            for row in group["rows"]
        ]
        report = _report(group["title"], rows)
        summaries = [
            {
                "mean": s.top1,
                "interval": s.interval,
                "difference": s.difference,
                "difference_interval": s.difference_interval,
            }
            for s in summarise(report)
        ]
        groups.append(
            {
                "title": group["title"],
                "about": group.get("about", ""),
                "rows": [row | {"summary": summary} for row, summary in zip(rows, summaries, strict=True)],
                "verdict": verdict_lines(report),
            }
        )
    return {
        "table": table.name,
        "title": table.title,
        "seeds": list(seeds),
        "groups": groups,
        "versions": wiring.versions(),
    }


def _row(row: dict[str, Any], metrics: list[dict[str, Any]]) -> dict[str, Any]:
    scores = []
    for found in metrics:
        for part in row["score"].split("."):
            if part not in found:
                raise InputError(
                    f"row {row['name']!r}: its runs have no score {row['score']!r}: {nearest(part, list(found))}"
                )
            found = found[part]
        scores.append(found)
    return _described(row) | {"top1": [score["top1"] for score in scores], "test_images": scores[0]["count"]}


def _described(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "note": row.get("note", ""),
        "run": row["run"],
        "score": row["score"],
        "baseline": bool(row.get("baseline", False)),
    }


def _report(title: str, rows: list[dict[str, Any]]) -> Report:
    names = ("name", "note", "top1", "test_images", "baseline")
    return Report(title, "", [RunRow(top5=None, seconds=[], **{name: row[name] for name in names}) for row in rows])


def results_markdown(found: dict[str, Any], *, verdict: bool = False) -> str:
    """``results.json`` as one table, made from the JSON alone; with ``verdict`` what each row shows in words too."""
    if not found["groups"]:
        return "No row shows these runs.\n"
    reports = [_report(group["title"], group["rows"]) for group in found["groups"]]
    lines: list[str] = []
    for report, group in zip(reports, found["groups"], strict=True):
        head, rule, *rows = results_table(report).splitlines()
        heading = f"*{group['title']}*" + (f"<br>{group['about']}" if group["about"] else "")
        lines += [*([] if lines else [head, rule]), f"| {heading} |" + " |" * (head.count("|") - 2), *rows]
    parts = ["\n".join(lines)]
    if verdict:
        for report in reports:
            parts += [f"**{report.title}**", "\n".join(f"- {line}" for line in verdict_lines(report))]
    largest = max(reports, key=lambda report: len(report.rows))
    return "\n\n".join([*parts, " ".join(caveats(largest))]) + "\n"
