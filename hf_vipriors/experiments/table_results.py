"""From finished runs to the figures of a table: everything that is drawn later, as plain JSON types."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, nearest, one_line
from ..evaluation.features import Outputs
from ..evaluation.predictions import read_predictions
from ..evaluation.statistics import mcnemar
from ..files import read_json
from ..reports.report_rows import Report, RunRow, summarise, verdict_lines
from ..training.run_files import RUN_FILE, log_history, versions
from ..training.trained_images import same_scored_images
from .provenance import provenance
from .tables import Table, TableRun

logger = logging.getLogger(__name__)
FolderOf = Callable[[int, str], Path]
# Of a score, shown where it is known: name in metrics.json and in results.json.
EXTRAS = ("top5", "calibration_error")


def results(table: Table, seeds: Sequence[int], folder_of: FolderOf) -> dict[str, Any]:
    """Every figure of the table: per row one top-1 a seed, the mean, intervals, the difference, paired tests.

    Args:
        folder_of: seed and name of a run -> its folder.

    Returns:
        ``{table, title, seeds, groups, plots, versions}``; each row of a group has ``top1`` (of its metric), ``seeds``
        and, where known, ``top5``, ``calibration_error``, ``trials``, ``parameters`` of the network, ``seconds`` (of
        the run and all it needs) and ``p_values`` (McNemar's test against the baseline), one value a seed; where the
        table has it ``published``; where the runs evaluated while they trained ``over_steps``, see
        :func:`over_steps`; where a run had no test split, ``test_is_validation``; and where it was scored on other
        images than the baseline, ``other_images``.

    Raises:
        InputError: a run without the score that a row shows, or with damaged files.
    """
    reader = _Reader(table, list(seeds), folder_of)
    groups = []
    for group in table.groups:
        rows = [reader.row(row) for row in group["rows"]]
        baseline = next((row for row in rows if row["baseline"]), None)
        for row in rows:
            if baseline is None or row is baseline:
                continue
            if reader.other_images(row, baseline):
                names = row["name"], baseline["name"]
                logger.warning("%s: %s and %s were scored on different images", group["title"], *names)
                row["other_images"] = True
            elif (p_values := reader.p_values(row, baseline)) is not None:
                row["p_values"] = p_values
        found = report(group["title"], rows)
        summaries = [
            {
                "mean": s.top1,
                "interval": s.interval,
                "difference": s.difference,
                "difference_interval": s.difference_interval,
            }
            for s in summarise(found)
        ]
        groups.append(
            {
                "title": group["title"],
                "about": group.get("about", ""),
                "series": group.get("series", group["title"]),
                "values": group.get("values", {}),
                "rows": [row | {"summary": summary} for row, summary in zip(rows, summaries, strict=True)],
                "verdict": verdict_lines(found),
            }
        )
    head = {"table": table.name, "title": table.title, "seeds": list(seeds), "groups": groups}
    return head | {"plots": table.plots, "versions": versions(), "measured": provenance()}


def report(title: str, rows: list[dict[str, Any]]) -> Report:
    """A group's rows, as they stand in results.json, as a report; with their parameters where these differ."""
    differ = len({size for row in rows for size in row.get("parameters", [])}) > 1
    scored = "validation" if all(row.get("test_is_validation") for row in rows) else "test"
    return Report(title, "", [_run_row(row, sized=differ) for row in rows], scored=scored)


def _run_row(row: dict[str, Any], *, sized: bool) -> RunRow:
    names = ("name", "note", "top1", "test_images", "baseline")
    known = ("metric", "trials", "p_values", "calibration_error", "published")
    more = {name: row[name] for name in known if name in row}
    more |= {"params": max(row["parameters"])} if sized and "parameters" in row else {}
    return RunRow(top5=row.get("top5"), seconds=row.get("seconds", []), **{n: row[n] for n in names}, **more)


def over_steps(histories: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Validation top-1 (of a teacher the kNN's) over the optimizer steps, at the steps that all seeds evaluated.

    Args:
        histories: ``log_history`` of each seed's ``trainer_state.json``.

    Returns:
        ``{"over_steps": {"steps": [...], "top1": [[of each seed], ...]}}`` or, with nothing evaluated, ``{}``.

    Example:
        >>> over_steps([[{"step": 8, "eval_top1": 0.4}], [{"step": 8, "eval_top1": 0.5}, {"step": 9, "loss": 2.0}]])
        {'over_steps': {'steps': [8], 'top1': [[0.4], [0.5]]}}
    """
    for key in ("eval_top1", "eval_knn_top1"):
        found = [{entry["step"]: entry[key] for entry in history if key in entry} for history in histories]
        steps = sorted(set.intersection(*map(set, found)))
        if steps:
            return {"over_steps": {"steps": steps, "top1": [[each[step] for step in steps] for each in found]}}
    return {}


def own_seconds(run: TableRun, metrics: dict[str, Any]) -> float | None:
    """How long one run took, its search included (with ``settings_of`` that was another run's)."""
    if metrics.get("seconds") is None:
        return None
    search = metrics.get("search", {}) if "settings_of" not in run.options else {}
    return metrics["seconds"] + search.get("seconds", 0.0)


class _Reader:
    """Reads each run's files once."""

    def __init__(self, table: Table, seeds: list[int], folder_of: FolderOf):
        self.table, self.seeds, self.folder_of = table, seeds, folder_of
        self._metrics: dict[Path, dict[str, Any]] = {}
        self._predictions: dict[Path, Outputs | None] = {}

    def seeds_of(self, run: str) -> list[int]:
        """A run that is made once has one value."""
        if not self.table.run(run).once:
            return self.seeds
        return [read_json(self.folder_of(self.seeds[0], run) / RUN_FILE)["arguments"]["seed"]]

    def metrics(self, seed: int, run: str) -> dict[str, Any]:
        folder = self.folder_of(seed, run)
        if folder not in self._metrics:
            self._metrics[folder] = read_json(folder / "metrics.json")
        return self._metrics[folder]

    def predictions(self, seed: int, run: str) -> Outputs | None:
        folder = self.folder_of(seed, run)
        if folder not in self._predictions:
            try:
                self._predictions[folder] = read_predictions(folder)
            except ValueError as error:
                raise InputError(f"{one_line(error, None)}: remove {folder} to run it again") from None
        return self._predictions[folder]

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        seeds = self.seeds_of(row["run"])
        metrics = [self.metrics(seed, row["run"]) for seed in seeds]
        scores = [self._score(row, found) for found in metrics]
        metric = row.get("metric", "top1")
        described = {key: row.get(key, "") for key in ("name", "note", "run", "score")}
        described |= {"metric": metric, "baseline": bool(row.get("baseline", False))}
        described |= {"values": row.get("values", {}), "series": row.get("series", row["name"]), "seeds": seeds}
        described |= {"top1": [score[metric] for score in scores], "test_images": scores[0]["count"]}
        described |= {"published": row["published"]} if row.get("published") else {}
        described |= {"test_is_validation": True} if any(found.get("test_is_validation") for found in metrics) else {}
        described |= over_steps([log_history(self.folder_of(seed, row["run"])) for seed in seeds])
        extras = {name: [score.get(name) for score in scores] for name in EXTRAS}
        extras["trials"] = [found.get("search", {}).get("trials") for found in metrics]
        extras["parameters"] = [found.get("parameters") for found in metrics]
        extras["seconds"] = [self._seconds(seed, row["run"]) for seed in seeds]
        return described | {name: values for name, values in extras.items() if None not in values}

    def _score(self, row: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
        for part in row["score"].split("."):
            if part not in found:
                raise InputError(
                    f"row {row['name']!r}: its runs have no score {row['score']!r}: {nearest(part, list(found))}"
                )
            found = found[part]
        return found

    def _seconds(self, seed: int, run: str) -> float | None:
        """Of the run and of all it needs: a student from a teacher has not had that teacher for nothing."""
        needed = map(self.table.run, sorted(self.table.needed([run])))
        found = [own_seconds(each, self.metrics(seed, each.name)) for each in needed]
        return None if None in found else sum(found)

    def _seeds_of_both(self, row: dict[str, Any], baseline: dict[str, Any]) -> list[int]:
        """The table's, with which the folder of a run that is made once is found too; one where both are such runs."""
        once = all(self.table.run(each["run"]).once for each in (row, baseline))
        return self.seeds[:1] if once else self.seeds

    def other_images(self, row: dict[str, Any], baseline: dict[str, Any]) -> bool:
        """Whether a row was scored on other images than the baseline, as far as the runs' folders tell."""
        for seed in self._seeds_of_both(row, baseline):
            runs = (row["run"], baseline["run"])
            mine, theirs = (self.predictions(seed, run) for run in runs)
            if mine is not None and theirs is not None and not torch.equal(mine.labels, theirs.labels):
                return True
            if not same_scored_images(*(self.folder_of(seed, run) for run in runs)):
                return True
        return row["score"] == baseline["score"] and row["test_images"] != baseline["test_images"]

    def p_values(self, row: dict[str, Any], baseline: dict[str, Any]) -> list[float] | None:
        """McNemar's test against a baseline on the same images, one a seed; None where predictions are not known.

        It counts right predictions, hence top-1, and says nothing of another metric.
        """
        if {row["score"], baseline["score"]} != {"test"} or row["metric"] != "top1":
            return None
        values = []
        for seed in self._seeds_of_both(row, baseline):
            mine, theirs = self.predictions(seed, row["run"]), self.predictions(seed, baseline["run"])
            if mine is None or theirs is None:
                return None
            right = [(found.values.argmax(dim=1) == found.labels).numpy() for found in (mine, theirs)]
            values.append(mcnemar(*right))
        return values
