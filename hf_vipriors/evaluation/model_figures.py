"""Pictures of models and of tables: learning curves and reliability; heat maps, curves with bands, intervals.

Like those of ``report_figures.py`` they are figures of their own in placeholder colours: ``figure_files.to_svg`` puts
them on a page, ``figure_files.to_png`` into a file. Accuracies go in as fractions and are drawn in percent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

from hf_vipriors.evaluation.calibration import BINS, ReliabilityBin, calibration_error, reliability
from hf_vipriors.evaluation.report_figures import (
    DASHES,
    FONT_SIZE,
    GRID,
    INK,
    MARKERS,
    MUTED,
    SERIES,
    confusion_figure,
    feature_map_figure,
    short,
    single_axes,
    style,
)
from hf_vipriors.evaluation.statistics import wilson_interval

__all__ = [
    "bars",
    "confusion_figure",
    "curve_with_band",
    "feature_map_figure",
    "heatmap",
    "learning_curves",
    "reliability_diagram",
]

Answers = tuple[np.ndarray, np.ndarray]
Line = tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]
_POSITIVE, _NEGATIVE = np.array([0, 114, 178]) / 255, np.array([213, 94, 0]) / 255
_MAX_WRITTEN_COLUMNS = 14
_MAX_TICKS = 12
_LOG_RATIO = 20
_LOSS = "training loss"


def learning_curves(
    histories: Mapping[str, Sequence[dict]],
    *,
    chance: Mapping[str, float] | None = None,
    classes: int | None = None,
) -> Figure | None:
    """Training loss, validation top-1 and online kNN over the epochs, from the Trainer's own log.

    Args:
        histories: name -> ``log_history`` of its ``trainer_state.json``. Runs that hold nothing of a panel are missing
            in it; a panel without any run is left out. The second of two peers is drawn as "NAME, peer".
        chance: name -> the loss of a network that has learnt nothing (``chance_level`` of a teacher's metrics.json).
        classes: number of classes, for the level that guessing would reach in top-1.

    Returns:
        One figure with up to three panels, or None when no run has logged anything to draw.

    Example:
        >>> history = [{"epoch": 1.0, "loss": 2.3}, {"epoch": 2.0, "loss": 1.9}, {"epoch": 2.0, "eval_top1": 0.4}]
        >>> [axes.get_ylabel() for axes in learning_curves({"student": history}).axes]
        ['training loss', 'validation top-1, %']
        >>> learning_curves({"student": []}) is None
        True
    """
    panels = [(label, found) for label, found in _panels(histories) if found]
    if not panels:
        return None
    names = list(dict.fromkeys(name for _, found in panels for name in found))
    figure = Figure(figsize=(min(13.5, 5.0 * len(panels) + 0.6), 3.6), layout="constrained")
    for axes, (label, found) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        style(axes)
        for name, (epochs, values) in found.items():
            axes.plot(epochs, values, linewidth=1.7, label=name, **_series(names.index(name), single=len(epochs) == 1))
        levels = [100 / classes] if classes and label.endswith("%") else []
        levels += sorted(set((chance or {}).values())) if label == _LOSS else []
        for level in levels:
            axes.axhline(level, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.annotate(
                f"chance {level:.3g}", (1, level), xycoords=("axes fraction", "data"), xytext=(0, 2),
                textcoords="offset points", ha="right", va="bottom", color=MUTED, fontsize=FONT_SIZE - 1,
            )  # fmt: skip
        drawn = [value for _, values in found.values() for value in values]
        if label == _LOSS and min(drawn) > 0 and max(drawn) > _LOG_RATIO * min(drawn):
            # Losses of different methods differ a hundredfold: on one scale only the largest would be seen.
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        _label(axes, xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        axes.margins(x=0.02, y=0.1)
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines if line.get_label() in names}
    # Above the panels, so that it never covers a line; sorted as the runs were given.
    figure.legend(
        [lines[name] for name in names], names, loc="outside upper left", frameon=False, fontsize=FONT_SIZE,
        labelcolor=INK, ncols=2 * len(panels),
    )  # fmt: skip
    return figure


def reliability_diagram(answers: Mapping[str, Answers], *, bins: int = BINS) -> Figure:
    """Accuracy against confidence, several models beside each other.

    On the diagonal a model is as often right as it is sure; the whiskers are 95 % intervals of the accuracy [0].

    Args:
        answers: name -> probabilities (N, K) and labels (N,).
        bins: equal widths of confidence. Default 15, as in the calibration error in the titles [0].

    Raises:
        ValueError: rows that are not probabilities, wrong shapes, a label out of range.

    References:
        [0] On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599
    """
    across = min(3, len(answers))
    down = math.ceil(len(answers) / across)
    figure = Figure(figsize=(3.9 * across + 0.2, 4.3 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes in panels[len(answers) :]:
        axes.remove()
    for axes, (name, (probabilities, labels)) in zip(panels, answers.items(), strict=False):
        style(axes)
        found = [each for each in reliability(probabilities, labels, bins) if each.count]
        _reliability(axes, found, bins, largest=max(each.count for each in found))
        error = calibration_error(probabilities, labels, bins)
        axes.set_title(f"{short(name, 30)}\nECE {100 * error:.1f} %", color=INK, fontsize=FONT_SIZE + 1, loc="left")
    return figure


def heatmap(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], *, title: str, xlabel: str, ylabel: str
) -> Figure:
    """A table of accuracies or of gains as shades, each cell with its number in percent (points).

    Args:
        values: (R, C) fractions; NaN leaves a cell empty. With a value below zero they are taken for gains: blue is
            above zero, orange below.
        rows: R names.
        columns: C names.
    """
    values = np.asarray(values, dtype=float)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"expected {len(rows)} x {len(columns)} values, as there are names, got {values.shape}")
    known = values[np.isfinite(values)]
    gains = bool((known < 0).any())
    figure, axes = single_axes(2.4 + min(7.2, 0.75 * len(columns)), 1.7 + min(6.0, 0.5 * len(rows)))
    shade = _shades(values, gains)
    image = np.zeros((*values.shape, 4))
    image[..., :3] = np.where((values < 0)[..., None], _NEGATIVE, _POSITIVE)
    image[..., 3] = shade
    # Opacity instead of a colour scale: an empty cell shows the page, whatever its theme.
    axes.imshow(image, interpolation="nearest", aspect="auto")
    if len(columns) <= _MAX_WRITTEN_COLUMNS:
        for row, column in zip(*np.isfinite(values).nonzero(), strict=True):
            text = f"{100 * values[row, column]:{'+' if gains else ''}.1f}".replace("-", "−")
            colour = "#ffffff" if shade[row, column] > 0.6 else INK
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=FONT_SIZE)
    axes.set_xticks(range(len(columns)), [short(name) for name in columns])
    axes.set_yticks(range(len(rows)), [short(name) for name in rows])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    _label(axes, xlabel=xlabel, ylabel=ylabel, title=title, grid=False)
    return figure


def curve_with_band(
    lines: Mapping[str, Line],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    log_x: bool = False,
    zero_line: bool = False,
) -> Figure:
    """Means over x, with the band of their intervals.

    Args:
        lines: name -> x, mean, low, high: fractions, drawn in percent. NaN in low or high: no interval is known there.
        log_x: a logarithmic axis, for numbers of images.
        zero_line: where gains are drawn, the line of "no gain".
    """
    figure, axes = single_axes(6.0, 3.9)
    for number, (name, line) in enumerate(lines.items()):
        x, mean, low, high = (np.asarray(values, dtype=float) for values in line)
        look = _series(number)
        axes.fill_between(x, 100 * low, 100 * high, color=look["color"], alpha=0.16, linewidth=0)
        axes.plot(
            x, 100 * mean, linewidth=1.8, marker=MARKERS[number % len(MARKERS)], markersize=5, label=name, **look
        )
    if zero_line:
        axes.axhline(0, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    places = sorted({float(x) for line in lines.values() for x in line[0]})
    if log_x:
        axes.set_xscale("log")
    if len(places) <= _MAX_TICKS:
        # The measured places and no others; a logarithmic axis would write powers of ten.
        axes.xaxis.set_major_locator(FixedLocator(places))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    _label(axes, xlabel=xlabel, ylabel=ylabel)
    place = (0, 1.01)
    legend = axes.legend(
        loc="lower left", bbox_to_anchor=place, ncols=2, frameon=False, fontsize=FONT_SIZE, labelcolor=INK,
        title=title, alignment="left",
    )  # fmt: skip
    legend.get_title().set(color=INK, fontsize=FONT_SIZE + 1, fontweight="bold")
    return figure


def bars(
    names: Sequence[str],
    means: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    *,
    title: str,
    baseline: int | None,
) -> Figure:
    """Rows of a table, first on top: a mark at the mean, its interval, a dashed line through the baseline.

    Args:
        names: of the rows.
        means: fractions.
        lows, highs: ends of the 95 % intervals, NaN where none is known.
        baseline: which row all are compared with.
    """
    figure, axes = single_axes(6.4, 1.2 + 0.36 * max(len(names), 2))
    for row, (mean, low, high) in enumerate(zip(means, lows, highs, strict=True)):
        colour = MUTED if row == baseline else SERIES[0]
        axes.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=5, alpha=0.4, solid_capstyle="butt")
        axes.plot([100 * mean], [row], color=colour, marker="D" if row == baseline else "o", markersize=6)
        # Written at the right edge, in one column: beside the marks it would cover lines.
        axes.annotate(
            f"{100 * mean:.1f}", (1.01, row), xycoords=("axes fraction", "data"), va="center", color=INK,
            fontsize=FONT_SIZE, annotation_clip=False,
        )  # fmt: skip
    if baseline is not None:
        axes.axvline(100 * means[baseline], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
    axes.set_yticks(range(len(names)), [short(name, 34) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _label(axes, xlabel="%, with 95 % interval", title=title)
    axes.grid(visible=False, axis="y")
    return figure


def _panels(histories: Mapping[str, Sequence[dict]]) -> list[tuple[str, dict[str, tuple[list, list]]]]:
    """What each panel shows: (label, name -> epochs and values)."""
    kinds = (
        (_LOSS, (("loss", "", 1),)),
        ("validation top-1, %", (("eval_top1", "", 100), ("eval_peer_top1", ", peer", 100))),
        ("online kNN top-1, %", (("eval_knn_top1", "", 100), ("eval_peer_knn_top1", ", peer", 100))),
    )
    panels = []
    for label, keys in kinds:
        found = {}
        for name, history in histories.items():
            for key, suffix, factor in keys:
                points = [(entry["epoch"], factor * entry[key]) for entry in history if key in entry]
                if points:
                    epochs, values = zip(*points, strict=True)
                    found[name + suffix] = (list(epochs), list(values))
        panels.append((label, found))
    return panels


def _reliability(axes: Axes, found: Sequence[ReliabilityBin], bins: int, largest: int) -> None:
    """One model: bars as strong as their bin is full; at its mean confidence a bin's accuracy with its interval."""
    axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    for each in found:
        middle, height = 50 * (each.low + each.high), 100 * each.accuracy
        low, high = wilson_interval(round(each.accuracy * each.count), each.count)
        strength = 0.25 + 0.6 * each.count / largest
        axes.bar(middle, height, width=92 / bins, color=SERIES[0], alpha=strength, linewidth=0)
        confident = 100 * each.confidence
        axes.plot([confident, confident], [100 * low, 100 * high], color=INK, linewidth=1)
        axes.plot([confident], [height], "o", markersize=3.5, color=INK)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 101)
    axes.set_aspect("equal")
    _label(axes, xlabel="confidence, %", ylabel="accuracy, %")


def _shades(values: np.ndarray, gains: bool) -> np.ndarray:
    """Opacity of each cell: from the least to the greatest value, or from zero to the greatest gain or loss."""
    known = np.isfinite(values)
    if not known.any():
        return np.zeros_like(values)
    if gains:
        return np.where(known, np.abs(values) / max(np.abs(values[known]).max(), 1e-9) * 0.85, 0)
    low, high = values[known].min(), values[known].max()
    return np.where(known, 0.08 + 0.8 * (values - low) / max(high - low, 1e-9), 0)


def _series(number: int, *, single: bool = False) -> dict:
    """Colour and dashes of a line; a single point needs a mark to be seen."""
    look = {"color": SERIES[number % len(SERIES)], "linestyle": DASHES[number % len(DASHES)]}
    return look | ({"marker": "o"} if single else {})


def _label(axes: Axes, *, xlabel: str = "", ylabel: str = "", title: str = "", grid: bool = True) -> None:
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    if title:
        axes.set_title(title, color=INK, fontsize=FONT_SIZE + 1, fontweight="bold", loc="left")
    if grid:
        axes.grid(color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
