"""The plots that a table may have: heat maps, curves with bands, rows with their intervals.

Like the other drawings they are figures of their own in placeholder colours, see ``report_figures.py``. Accuracies go
in as fractions and are drawn in percent. From the rows of a table: ``table_figures.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from .report_figures import FONT_SIZE, INK, MARKERS, MUTED, SERIES, label_axes, line_look, short, single_axes

Line = tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]
_POSITIVE, _NEGATIVE = np.array([0, 114, 178]) / 255, np.array([213, 94, 0]) / 255
_MAX_WRITTEN_COLUMNS = 14
_MAX_TICKS = 12


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
    label_axes(axes, xlabel=xlabel, ylabel=ylabel, title=title, grid=False)
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
        look = line_look(number)
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
    label_axes(axes, xlabel=xlabel, ylabel=ylabel)
    place = (0, 1.01)
    legend = axes.legend(
        axes.lines[: len(lines)], list(lines),
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
    label_axes(axes, xlabel="%, with 95 % interval", title=title)
    axes.grid(visible=False, axis="y")
    return figure


def _shades(values: np.ndarray, gains: bool) -> np.ndarray:
    """Opacity of each cell: from the least to the greatest value, or from zero to the greatest gain or loss."""
    known = np.isfinite(values)
    if not known.any():
        return np.zeros_like(values)
    if gains:
        return np.where(known, np.abs(values) / max(np.abs(values[known]).max(), 1e-9) * 0.85, 0)
    low, high = values[known].min(), values[known].max()
    return np.where(known, 0.08 + 0.8 * (values - low) / max(high - low, 1e-9), 0)
