"""The chart of a benchmark: where a step's time goes, and how fast it is beside its ceiling and beside others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .report_figures import CARD, FONT_SIZE, INK, MUTED, SERIES, label_axes, style

_BAR = 0.26
_WRITTEN_FROM = 0.055  # of a step: a narrower part has no room for its number


def benchmark_figure(
    sizes: Sequence[int],
    splits: Sequence[Mapping[str, float]],
    speeds: Sequence[Mapping[str, float]],
    shares: Sequence[Mapping[str, float]],
    *,
    title: str,
    where: str,
    ours: str,
    full: str,
) -> Figure:
    """Two panels, the same image sizes from top to bottom.

    Args:
        sizes: side of the images of each case, in pixels.
        splits: of each case, part of a step -> seconds.
        speeds: of each case, contestant -> images per second.
        shares: of each case, contestant -> its speed as a share of that of ``full``.
        title: stands above both.
        where: the machine, below the title.
        ours: the contestant whose split it is.
        full: the contestant that is 100 %.
    """
    figure = Figure(figsize=(11.5, 1.75 + 0.95 * len(sizes)), layout="constrained")
    figure.suptitle(title, color=INK, fontsize=FONT_SIZE + 2, fontweight="bold", x=0.008, ha="left")
    left, right = figure.subplots(1, 2, width_ratios=(1.08, 1))
    _split_bars(left, sizes, splits)
    _speed_bars(right, sizes, speeds, shares, ours, full)
    # Below, in one line, so that the title stays short.
    figure.supxlabel(where, color=MUTED, fontsize=FONT_SIZE - 1, x=0.008, ha="left")
    return figure


def _split_bars(axes: Axes, sizes: Sequence[int], splits: Sequence[Mapping[str, float]]) -> None:
    style(axes)
    parts = list(splits[0])
    for row, split in enumerate(splits):
        total, start = sum(split.values()), 0.0
        for number, part in enumerate(parts):
            share = split[part] / total
            colour = MUTED if part == "rest" else SERIES[number]
            axes.barh(
                row, 100 * share, left=100 * start, height=0.56, color=colour, edgecolor=CARD, linewidth=1,
                label=part if row == 0 else None,
            )  # fmt: skip
            if share >= _WRITTEN_FROM:
                axes.text(
                    100 * (start + share / 2), row, f"{100 * share:.0f}", ha="center", va="center", color=CARD,
                    fontsize=FONT_SIZE - 1,
                )  # fmt: skip
            start += share
        axes.text(101.5, row, f"{number_word(1000 * total)} ms", va="center", color=INK, fontsize=FONT_SIZE)
    _rows(axes, sizes)
    axes.set_xlim(0, 118)
    axes.set_xticks(range(0, 101, 20))
    label_axes(axes, xlabel="% of a step, end to end", grid=False)
    _legend(axes, len(parts))


def _speed_bars(
    axes: Axes,
    sizes: Sequence[int],
    speeds: Sequence[Mapping[str, float]],
    shares: Sequence[Mapping[str, float]],
    ours: str,
    full: str,
) -> None:
    style(axes)
    names = list(speeds[0])
    height = min(_BAR, 0.8 / len(names))
    longest = max(share for case in shares for share in case.values())
    for row, (speed, share) in enumerate(zip(speeds, shares, strict=True)):
        for number, name in enumerate(names):
            place = row + (number - (len(names) - 1) / 2) * height
            colour = {ours: SERIES[0], full: MUTED}.get(name, SERIES[1])
            length = 100 * share[name]
            axes.barh(place, length, height=height * 0.9, color=colour, label=name if row == 0 else None)
            rate = f"{number_word(speed[name])}/s"
            words = rate if name == full else f"{length:.0f} %   {rate}"
            # Inside a bar that has room for it: beside it the line of 100 % would cross the number.
            inside = share[name] > 0.45 * longest
            axes.text(
                length - 1.5 * longest if inside else length + 1.5 * longest, place, words, va="center",
                ha="right" if inside else "left", color=CARD if inside else INK, fontsize=FONT_SIZE - 1,
            )  # fmt: skip
    _rows(axes, sizes)
    axes.axvline(100, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.set_xlim(0, 104 * longest)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    label_axes(axes, xlabel=f"% of the {full}, and images per second", grid=False)
    _legend(axes, len(names))


def number_word(value: float) -> str:
    """Three digits, or as many as stand before the point.

    Example:
        >>> number_word(12345.6), number_word(12.345), number_word(1.5)
        ('12,346', '12.3', '1.5')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rows(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_yticks(range(len(sizes)), [f"{size} px" for size in sizes])
    axes.set_ylim(len(sizes) - 0.45, -0.55)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _legend(axes: Axes, columns: int) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, frameon=False, fontsize=FONT_SIZE,
        labelcolor=INK, handlelength=1, handleheight=1, handletextpad=0.4, columnspacing=1.1,
    )  # fmt: skip
