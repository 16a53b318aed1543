"""Tables of runs: what a YAML file asks for.

    title: Margin and negatives
    runs:
      scratch: {job: train_student, recipe: r.yaml, once: true}      # once: the first seed's stands for all seeds
      drawn: {job: train_student, recipe: r.yaml, own_labels: true}  # each seed has labelled images of its own
      moco:                                                          # a matrix: moco-margin0.0-negatives128, ...
        job: train_teacher
        recipe: r.yaml
        matrix: {margin: [0.0, 0.4], negatives: [128, 256]}
        options: {margin: "$margin", queue_length: "$negatives"}
      tuned:
        job: train_student
        recipe: r.yaml
        matrix: {margin: [0.0, 0.4], negatives: [128, 256]}
        options: {teacher: "{moco}"}                                 # the cell of moco with the same values
      both: {job: evaluate, options: {students: ["{scratch}", "{tuned-margin0.4-negatives128}"], ten_crop: true}}
    groups:
      - title: Linear probe
        about: a line below the title
        rows:
          - name: margin $margin, $negatives negatives
            run: moco
            score: linear
            metric: top1                                             # or balanced_accuracy
            matrix: {margin: [0.0, 0.4], negatives: [128, 256]}
            baseline: {margin: 0.0, negatives: 128}                  # or true; what the group's rows are compared with
            published: {percent: 57.8, source: "2108.13122"}         # what a paper reports, in a column of its own
    plots:
      - {kind: heatmap, title: Linear probe, x: negatives, y: margin}

One rule carries all of it: a matrix makes one copy of its entry for each of its cells, in which ``$axis`` is the
cell's value, and to name a run that is itself a matrix is to name the copy whose values agree (it may have fewer axes;
a single cell is named ``moco-margin0.4-negatives128``). Runs, rows and groups may have a matrix; a row has its own
values and its group's. A list of cells, ``matrix: [{teacher: a, student: b}, ...]``, takes those and no other
combinations. Everything after this file sees plain runs and plain rows.

Jobs are those of the scripts, and ``evaluate``: several finished students as an ensemble, or one, on one or ten crops.
Scores: ``test``, ``test_without_duplicates`` (on CIFAR-10, see ``data/cifair.py``), ``corrupted`` (students), ``knn``,
``linear``, ``peer.knn``, ``peer.linear`` (without labels).
Plots: see ``evaluation/table_figures.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, nearest, one_line
from ..reports.table_figures import check_plots
from ..shipped import find_recipe
from ..yaml_files import yaml_mapping
from .table_matrix import REFERENCE, Cell, cell_name, cell_of, cells, fill, refer, word

RUN_KEYS = ("job", "recipe", "options", "once", "seed_offset", "own_labels", "matrix")
ROW_KEYS = ("name", "run", "score", "metric", "note", "baseline", "published", "matrix")
GROUP_KEYS = ("title", "about", "rows", "matrix")
METRICS = ("top1", "balanced_accuracy")
TITLE_KEYS = ("title", "runs", "groups", "plots")


@dataclass(frozen=True)
class TableRun:
    """One run: a job, a recipe, and options, in which ``{other}`` stands for another run's folder.

    Attributes:
        once: made for the first seed only, from that seed's runs, and of every seed.
        seed_offset: added to its seed: runs of one recipe that differ in luck alone, to be averaged.
        own_labels: each seed has labelled images of its own (``subset_seed`` is the seed), and sets the same aside.
        values: of a cell of a matrix, the values of its axes.
        base: name of the matrix that it is a cell of, or its own.
    """

    name: str
    job: str
    recipe: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    once: bool = False
    seed_offset: int = 0
    own_labels: bool = False
    values: Cell = field(default_factory=dict)
    base: str = ""

    @property
    def uses(self) -> list[str]:
        """Names of the runs whose folders its options name."""
        values = [v for value in self.options.values() for v in (value if isinstance(value, list) else [value])]
        return list(dict.fromkeys(n for v in values if isinstance(v, str) for n in REFERENCE.findall(v)))

    def options_with(self, folders: dict[str, str]) -> dict[str, Any]:
        """The options with each run's folder for its name."""

        def named(value: Any) -> Any:
            if isinstance(value, list):
                return [named(item) for item in value]
            return REFERENCE.sub(lambda found: folders[found[1]], value) if isinstance(value, str) else value

        return {name: named(value) for name, value in self.options.items()}


@dataclass(frozen=True)
class Table:
    """A table: runs in the order they are made, and groups of rows, each with its own baseline."""

    name: str
    title: str
    runs: list[TableRun]
    groups: list[dict[str, Any]]
    plots: list[dict[str, Any]] = field(default_factory=list)

    def run(self, name: str) -> TableRun:
        return next(run for run in self.runs if run.name == name)

    def needed(self, names: Sequence[str]) -> set[str]:
        """These runs and all that they use, directly or not."""
        wanted = set(names)
        for run in reversed(self.runs):  # a run uses only runs above it
            if run.name in wanted:
                wanted.update(run.uses)
        return wanted

    def only(self, names: Sequence[str]) -> Table:
        """These runs (of a matrix: all its cells, or one) and all they use; rows that show none of them are left out.

        Raises:
            InputError: a name that no run has.
        """
        known = {run.name for run in self.runs} | {run.base for run in self.runs if run.base}
        for name in names:
            if name not in known:
                raise InputError(f"--runs {name}: {nearest(name, known)}")
        wanted = self.needed([run.name for run in self.runs if {run.name, run.base} & set(names)])
        groups = [{**g, "rows": [row for row in g["rows"] if row["run"] in wanted]} for g in self.groups]
        runs = [run for run in self.runs if run.name in wanted]
        return replace(self, runs=runs, groups=[group for group in groups if group["rows"]])


def read_table(name: str, folder: Path, jobs: Sequence[str]) -> Table:
    """The table of a name in ``folder``, or of a YAML file.

    Raises:
        InputError: no such file, or one that asks for what does not exist.
    """
    path = find_recipe(name, "--table", kind="table", folder=folder)
    found = yaml_mapping(path, "table", "a title, runs and groups")
    try:
        _check_keys(found, TITLE_KEYS, "it")
        runs = _runs(found["runs"])
        plots = [_plot(plot) for plot in found.get("plots", [])]
        table = Table(path.stem, _text(found["title"], "its title"), runs, _groups(found["groups"], runs), plots)
        _check(table, jobs)
        check_plots(table.plots, table.groups)
    except InputError as error:
        raise InputError(f"table {path}: {one_line(error, None)}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"table {path} cannot be read: {type(error).__name__} {one_line(error, None)}") from None
    return table


def _runs(found: dict[str, dict[str, Any]]) -> list[TableRun]:
    made: list[TableRun] = []
    for base, settings in found.items():
        where = f"run {base}"
        _check_keys(settings, RUN_KEYS, where)
        settings = dict(settings)
        earlier = [(run.name, run.base, run.values) for run in made]
        for cell in cells(settings.pop("matrix", None), where):
            run = fill(settings, cell, where)
            options = {n: refer(v, cell, earlier, where) for n, v in run.pop("options", {}).items()}
            made.append(TableRun(cell_name(base, cell), **run, options=options, values=cell, base=base))
    if len({run.name for run in made}) < len(made):
        raise InputError("two runs have one name: a cell of a matrix and another run")
    return made


def _groups(found: list[dict[str, Any]], runs: list[TableRun]) -> list[dict[str, Any]]:
    groups = []
    for group in found:
        where = f"group {group['title']!r}"
        _check_keys(group, GROUP_KEYS, where)
        texts = {key: _text(group.get(key, ""), f"{where}: {key}") for key in ("title", "about")}
        for outer in cells(group.get("matrix"), where):
            rows = [row for written in group["rows"] for row in _rows(written, outer, runs)]
            words = {key: word(fill(text, outer, where)) for key, text in texts.items()}
            groups.append({**words, "series": texts["title"], "values": outer, "rows": rows})
    return groups


def _rows(written: dict[str, Any], outer: Cell, runs: list[TableRun]) -> list[dict[str, Any]]:
    where = f"row {written['name']!r}"
    _check_keys(written, ROW_KEYS, where)
    texts = {key: _text(written.get(key, ""), f"{where}: {key}") for key in ("name", "note")}
    known = [(run.name, run.base, run.values) for run in runs]
    rows = []
    for inner in cells(written.get("matrix"), where):
        values = outer | inner
        row = fill({key: value for key, value in (written | texts).items() if key != "matrix"}, values, where)
        run = cell_of(row["run"], values, known, where)
        values = next(cell for name, _, cell in known if name == run) | values
        rows.append(
            {
                "name": word(row["name"]),
                "note": word(row["note"]),
                "run": run,
                "score": row["score"],
                "metric": row.get("metric", "top1"),
                "baseline": _is_baseline(row.get("baseline", False), values, where),
                "published": _published(row.get("published"), where),
                "values": values,
                # What a line of a plot is called: rows of one line differ in their values alone.
                "series": written["run"] if "$" in texts["name"] else word(row["name"]),
            }
        )
    return rows


def _plot(found: dict[str, Any]) -> dict[str, Any]:
    """With texts where titles are: those of groups are texts too."""
    if not isinstance(found, dict):
        return found  # refused with the other plots that cannot be drawn
    return found | {key: _text(found[key], f"plot {found!r}: {key}") for key in ("title", "group") if key in found}


def _text(value: Any, what: str) -> str:
    """A text; a number is one too. YAML makes true of yes, and nothing of ~: nobody knows what was written there."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(f"{what} is {value!r}, which is no text: write one, in quotes")
    return str(value)


def _is_baseline(wanted: bool | Cell, values: Cell, where: str) -> bool:
    if not isinstance(wanted, dict):
        return bool(wanted)
    if not wanted.keys() <= values.keys():
        raise InputError(f"{where}: its baseline {wanted} names an axis that it does not have")
    return wanted.items() <= values.items()


def _published(found: dict[str, Any] | None, where: str) -> dict[str, Any] | None:
    if found is None:
        return None
    fits = isinstance(found, dict) and found.keys() == {"percent", "source"} and isinstance(found["source"], str)
    if not fits or not isinstance(found["percent"], int | float) or not 0 <= found["percent"] <= 100:
        raise InputError(f'{where}: published is {{percent: 57.8, source: "2108.13122"}}, the source in quotes')
    return {"percent": found["percent"], "source": found["source"]}


def _check_keys(entry: dict[str, Any], keys: Sequence[str], where: str) -> None:
    for key in entry.keys() - set(keys):
        raise InputError(f"{where} has a {key!r}: {nearest(str(key), keys)}")


def _check(table: Table, jobs: Sequence[str]) -> None:
    for run in table.runs:
        if run.job not in jobs:
            raise InputError(f"run {run.name} has the job {run.job!r}: {nearest(str(run.job), jobs)}")
        if not isinstance(run.seed_offset, int) or (run.seed_offset and run.once):
            raise InputError(f"run {run.name}: seed_offset is a whole number, and none where a run is made once")
        if not isinstance(run.own_labels, bool) or (run.own_labels and (run.once or run.job == "evaluate")):
            raise InputError(
                f"run {run.name}: own_labels is true or false, and false where a run is made once or trains nothing"
            )
        for other in map(table.run, run.uses):
            if other.job == "evaluate":
                raise InputError(f"run {run.name} uses {other.name!r}, which makes no model")
    if not any(group["rows"] for group in table.groups):
        raise InputError("it has no rows")
    for group in table.groups:
        _check_group(group)


def _check_group(group: dict[str, Any]) -> None:
    where = f"group {group['title']!r}"
    names = [row["name"] for row in group["rows"]]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{where} has two rows {name!r}: in a matrix, write $axis into the name")
    if sum(row["baseline"] for row in group["rows"]) > 1:
        raise InputError(f"{where} has more than one baseline: of a matrix name the cell, 'baseline: {{axis: 1}}'")
    metrics = {row["metric"] for row in group["rows"]}
    for metric in metrics:
        if metric not in METRICS:
            raise InputError(f"{where} has the metric {metric!r}: {nearest(str(metric), METRICS)}")
    if len(metrics) > 1:
        raise InputError(f"{where} compares {' with '.join(sorted(metrics))}: give all its rows the same metric")
