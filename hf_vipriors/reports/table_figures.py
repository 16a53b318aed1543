"""The plots of a table, drawn from the rows of its results.json alone.

A table's YAML asks for them, one mapping each; ``title`` and ``kind`` are needed:

- ``{kind: heatmap, title: T, x: AXIS, y: AXIS}``: one cell for each pair of values of two axes of a matrix
- ``{kind: curve, title: T, x: AXIS, log_x: true}``: one line for each row as written (and each value of other axes);
  where there are lines, values that gave a single point are left out
- ``{kind: steps, title: T}``: one line for each row, its validation accuracy over the optimizer steps, mean of the
  seeds in the band from the lowest to the highest of them
- ``{kind: bars, title: T}``: rows with their intervals; each group has its own without being asked

``value: gain`` draws the points to the baseline of the row's group in place of the score (heat maps and curves).
``group: TITLE`` and ``rows: [NAME, ...]`` take some groups and rows only, named as the YAML writes them (one of a
matrix of groups by the title that it gets), or, where a row's name has an ``$axis`` in it, by its run; two rows that
would fall on one cell or point are refused. What is not measured is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..errors import InputError, nearest
from ..files import free_name
from .table_plots import bars, curve_with_band, heatmap

KINDS = {
    "heatmap": ("kind", "title", "group", "rows", "value", "x", "y"),
    "curve": ("kind", "title", "group", "rows", "value", "x", "log_x"),
    "steps": ("kind", "title", "group", "rows"),
    "bars": ("kind", "title", "group", "rows"),
}
VALUES = ("score", "gain")
_LONGEST_NAME = 120  # bytes of a file's name; systems take 255
SCORES = {
    "test": "top-1",
    "test_without_duplicates": "top-1",
    "knn": "kNN top-1",
    "linear": "linear probe top-1",
    "peer.knn": "kNN top-1 of the peer",
    "peer.linear": "linear probe top-1 of the peer",
    "corrupted": "top-1 on corrupted images",
}

Groups = Sequence[dict[str, Any]]
Row = dict[str, Any]


def check_plots(plots: Sequence[dict[str, Any]], groups: Groups) -> None:
    """Refuse a plot that could not be drawn, before anything is run.

    Raises:
        InputError: naming the plot and what it asks for in vain.
    """
    for plot in plots:
        if not isinstance(plot, dict) or "title" not in plot:
            raise InputError(f"plot {plot!r} has no title")
        _check_plot(plot, f"plot {plot['title']!r}", groups)
    names = [plot_name(plot["title"]) for plot in plots]
    for plot, name in zip(plots, names, strict=True):
        if names.count(name) > 1:
            raise InputError(f"two plots would be called {name}.png: give {plot['title']!r} another title")


def _check_plot(plot: dict[str, Any], where: str, groups: Groups) -> None:
    kind = plot.get("kind")
    if kind not in KINDS:
        raise InputError(f"{where} has the kind {kind!r}: {nearest(str(kind), KINDS)}")
    for key in plot.keys() - set(KINDS[kind]):
        raise InputError(f"{where} has a {key!r}: {nearest(str(key), KINDS[kind])}")
    if plot.get("value", "score") not in VALUES:
        raise InputError(f"{where} has the value {plot['value']!r}: {nearest(str(plot['value']), VALUES)}")
    titles = [title for group in groups for title in (group["series"], group["title"])]
    if "group" in plot and plot["group"] not in titles:
        raise InputError(f"{where}: no group {plot['group']!r}: {nearest(str(plot['group']), titles)}")
    rows = [row for group in _groups(plot, groups) for row in group["rows"]]
    for name in plot.get("rows", []):
        if name not in {row["series"] for row in rows}:
            raise InputError(f"{where}: no row {name!r}: {nearest(str(name), {row['series'] for row in rows})}")
    for key in {"x", "y"} & set(KINDS[kind]):
        axes = {axis for _, row in _chosen(plot, groups) for axis in row["values"]}
        if plot.get(key) not in axes:
            known = nearest(str(plot.get(key)), axes) if axes else "its rows have no matrix"
            raise InputError(f"{where} has no axis {plot.get(key)!r} for {key}: {known}")
    if kind == "curve":
        found = [row["values"][plot["x"]] for _, row in _chosen(plot, groups) if plot["x"] in row["values"]]
        if any(isinstance(value, str | bool) for value in found):
            raise InputError(f"{where}: the values of {plot['x']} are no numbers: a heatmap can show them")
    if {"x", "y"} & set(KINDS[kind]):
        places = _places(plot, [row for _, row in _chosen(plot, groups)])
        for place in places:
            if places.count(place) > 1:
                raise InputError(f"{where}: two rows fall on {' and '.join(map(str, place))}: choose by group or rows")


def plot_name(title: str) -> str:
    """The name of its file.

    Example:
        >>> plot_name("Gain, by images per class")
        'gain-by-images-per-class'
    """
    whole = re.sub(r"\W+", "-", title.lower()).strip("-")
    return whole.encode()[:_LONGEST_NAME].decode(errors="ignore").strip("-") or "unnamed"


def plot_figures(found: dict[str, Any]) -> dict[str, tuple[str, Figure]]:
    """The plots that the table asks for: name of the file -> title, figure.

    Args:
        found: what results.json holds.
    """
    draw = {"heatmap": _heatmap, "curve": _curve, "steps": _steps, "bars": _bars}
    figures = {}
    for plot in found.get("plots", []):
        rows = list(_chosen(plot, found["groups"]))
        figure = draw[plot["kind"]](plot, rows) if rows else None
        if figure is not None:
            figures[plot_name(plot["title"])] = (plot["title"], figure)
    return figures


def all_figures(found: dict[str, Any]) -> dict[str, Figure]:
    """Every image of the table: name of the file -> figure; a group's own gives way to a plot of the same title."""
    groups: dict[str, Figure] = {}
    for group in found["groups"]:
        groups[free_name(plot_name(group["title"]), "{}-{}", groups)] = group_figure(group)
    return groups | {name: figure for name, (_, figure) in plot_figures(found).items()}


def group_figure(group: dict[str, Any]) -> Figure:
    """The rows of a group with their intervals."""
    return _bars({"title": group["title"]}, [(group, row) for row in group["rows"]])


def _groups(plot: dict[str, Any], groups: Groups) -> list[dict[str, Any]]:
    return [group for group in groups if plot.get("group", group["series"]) in (group["series"], group["title"])]


def _chosen(plot: dict[str, Any], groups: Groups) -> Iterable[tuple[dict[str, Any], Row]]:
    for group in _groups(plot, groups):
        for row in group["rows"]:
            if row["series"] in plot.get("rows", [row["series"]]):
                yield group, row


def _places(plot: dict[str, Any], rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """Where each row falls: its cell of a heatmap, its line and number on a curve."""
    if plot["kind"] == "heatmap":
        cells = (tuple(row["values"].get(plot[axis]) for axis in ("x", "y")) for row in rows)
        return [cell for cell in cells if None not in cell]
    placed = _on_curve(plot, rows)
    return [(_line(row, plot["x"], placed), row["values"][plot["x"]]) for row in placed]


def _on_curve(plot: dict[str, Any], rows: Iterable[Row]) -> list[Row]:
    """A baseline has no gain of its own."""
    gain = plot.get("value") == "gain"
    return [row for row in rows if plot["x"] in row["values"] and not (gain and row["baseline"])]


def _measured(row: Row, gain: bool) -> tuple[float, float, float]:
    """Mean and the ends of its interval, NaN where there is none."""
    summary = row["summary"]
    if not gain:
        return summary["mean"], *(summary["interval"] or (math.nan, math.nan))
    if row["baseline"]:
        return 0.0, math.nan, math.nan
    if summary["difference"] is None:
        return math.nan, math.nan, math.nan
    return summary["difference"], *(summary["difference_interval"] or (math.nan, math.nan))


def _heatmap(plot: dict[str, Any], rows: list[tuple[dict, Row]]) -> Figure | None:
    x, y, gain = plot["x"], plot["y"], plot.get("value") == "gain"
    placed = [row for _, row in rows if {x, y} <= row["values"].keys()]
    if not placed:
        return None
    across, down = (list(dict.fromkeys(row["values"][axis] for row in placed)) for axis in (x, y))
    values = np.full((len(down), len(across)), np.nan)
    for row in placed:
        values[down.index(row["values"][y]), across.index(row["values"][x])] = _measured(row, gain)[0]
    words = ([str(value) for value in axis] for axis in (down, across))
    title = f"{plot['title']}: {_unit(placed[0], gain)}"
    return heatmap(values, *words, title=title, xlabel=_axis(x), ylabel=_axis(y))


def _curve(plot: dict[str, Any], rows: list[tuple[dict, Row]]) -> Figure | None:
    x, gain = plot["x"], plot.get("value") == "gain"
    placed = _on_curve(plot, (row for _, row in rows))
    if not placed:
        return None
    lines: dict[str, list[tuple[float, ...]]] = {}
    for row in placed:
        mean, low, high = _measured(row, gain)
        lines.setdefault(_line(row, x, placed), []).append((float(row["values"][x]), mean, low, high))
    longest = max(map(len, lines.values()))
    lines = {name: points for name, points in lines.items() if len(points) > 1 or longest == 1}
    return curve_with_band(
        {name: tuple(zip(*sorted(points), strict=True)) for name, points in lines.items()},
        title=plot["title"],
        xlabel=_axis(x),
        ylabel=_unit(placed[0], gain),
        log_x=bool(plot.get("log_x", False)),
        zero_line=gain,
    )


def _steps(plot: dict[str, Any], rows: list[tuple[dict, Row]]) -> Figure | None:
    lines = {}
    for name, (_, row) in zip(_names(rows), rows, strict=True):
        if "over_steps" in row:
            values = np.asarray(row["over_steps"]["top1"])
            lines[name] = (row["over_steps"]["steps"], values.mean(axis=0), values.min(axis=0), values.max(axis=0))
    labels = {"xlabel": "optimizer steps (band: lowest to highest seed)", "ylabel": "validation top-1, %"}
    return curve_with_band(lines, title=plot["title"], **labels) if lines else None


def _line(row: Row, x: str, rows: Sequence[Row]) -> str:
    """The line that a row is a point of: its name as written, and its values of other axes that differ."""
    varying = [
        axis for axis in row["values"] if axis != x and len({str(other["values"].get(axis)) for other in rows}) > 1
    ]
    words = [f"{_axis(axis)} {row['values'][axis]}" for axis in varying]
    several = len({other["series"] for other in rows}) > 1
    return ", ".join([row["series"], *words] if several or not words else words)


def _bars(plot: dict[str, Any], rows: list[tuple[dict, Row]]) -> Figure:
    means, lows, highs = zip(*(_measured(row, gain=False) for _, row in rows), strict=True)
    baseline = next((place for place, (_, row) in enumerate(rows) if row["baseline"]), None) if _single(rows) else None
    return bars(_names(rows), means, lows, highs, title=plot["title"], baseline=baseline)


def _single(rows: list[tuple[dict, Row]]) -> bool:
    return len({id(group) for group, _ in rows}) == 1


def _names(rows: list[tuple[dict, Row]]) -> list[str]:
    """Of the rows, with their group's title where there are several groups."""
    return [row["name"] if _single(rows) else f"{row['name']} ({group['title']})" for group, row in rows]


def _axis(name: str) -> str:
    return name.replace("_", " ")


def _unit(row: Row, gain: bool) -> str:
    if gain:
        return "points to the baseline"
    score = SCORES[row["score"]]
    return f"{score.replace('top-1', 'balanced accuracy') if row['metric'] == 'balanced_accuracy' else score}, %"
