"""Images of models: learning curves and reliability.

Like those of ``report_figures.py`` they are figures of their own in placeholder colours: ``figure_files.to_svg`` puts
them on a page, ``figure_files.to_png`` into a file. Accuracies go in as fractions and are drawn in percent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from ..evaluation.calibration import BINS, ReliabilityBin, calibration_error, reliability
from ..evaluation.statistics import wilson_interval
from .report_figures import FONT_SIZE, INK, MUTED, SERIES, label_axes, line_look, short, style

Predictions = tuple[np.ndarray, np.ndarray]
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
            look = line_look(names.index(name), single=len(epochs) == 1)
            axes.plot(epochs, values, linewidth=1.7, label=name, **look)
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
        label_axes(axes, xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        axes.margins(x=0.02, y=0.1)
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines if line.get_label() in names}
    # Above the panels, so that it never covers a line; sorted as the runs were given.
    figure.legend(
        [lines[name] for name in names], names, loc="outside upper left", frameon=False, fontsize=FONT_SIZE,
        labelcolor=INK, ncols=2 * len(panels),
    )  # fmt: skip
    return figure


def reliability_diagram(predictions: Mapping[str, Predictions], *, bins: int = BINS) -> Figure:
    """Accuracy against confidence, several models beside each other.

    On the diagonal a model is as often right as it is sure; the whiskers are 95 % intervals of the accuracy [0].

    Args:
        predictions: name -> probabilities (N, K) and labels (N,).
        bins: equal widths of confidence. Default 15, as in the calibration error in the titles [0].

    Raises:
        ValueError: rows that are not probabilities, wrong shapes, a label out of range.

    References:
        [0] On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599
    """
    across = min(3, len(predictions))
    down = math.ceil(len(predictions) / across)
    figure = Figure(figsize=(3.9 * across + 0.2, 4.3 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes in panels[len(predictions) :]:
        axes.remove()
    for axes, (name, (probabilities, labels)) in zip(panels, predictions.items(), strict=False):
        style(axes)
        found = [each for each in reliability(probabilities, labels, bins) if each.count]
        _reliability(axes, found, bins, largest=max(each.count for each in found))
        error = calibration_error(probabilities, labels, bins)
        axes.set_title(f"{short(name, 30)}\nECE {100 * error:.1f} %", color=INK, fontsize=FONT_SIZE + 1, loc="left")
    return figure


def _panels(histories: Mapping[str, Sequence[dict]]) -> list[tuple[str, dict[str, tuple[list, list]]]]:
    """What each panel shows: (label, name -> epochs and values)."""
    kinds = (
        (_LOSS, (("loss", "", 1),)),
        ("validation top-1, %", (("eval_top1", "", 100), ("eval_peer_top1", ", peer", 100))),
        ("online kNN top-1, %", (("eval_knn_top1", "", 100), ("eval_peer_knn_top1", ", peer", 100))),
        (
            "effective rank of the features",
            (("eval_effective_rank", "", 1), ("eval_peer_effective_rank", ", peer", 1)),
        ),
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
    if panels[-2][1]:  # where labels tell how good features are, nobody asks for their rank
        panels.pop()
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
    label_axes(axes, xlabel="confidence, %", ylabel="accuracy, %")
