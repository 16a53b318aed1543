"""The report's drawings: matplotlib figures in one look. Others: ``model_figures.py``, ``table_plots.py``.

Every function builds its own ``Figure``; nothing goes through pyplot, so no global state and no window is touched.
Colours are placeholders (``INK``, ``GRID``, ...) that ``figure_files.py`` replaces: by CSS variables in SVG, so that
one drawing serves the light page, the dark page and the printer, and by the light theme's colours in PNG.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.manifold import TSNE

from .report_rows import Curve

INK, MUTED, GRID, CARD = "#010101", "#020202", "#030303", "#040404"
# After Okabe and Ito, told apart with any colour vision; the page's CSS holds a light and a dark shade of each.
SERIES = tuple(f"#0a0a{number:02d}" for number in range(1, 11))
# Colour is never the only mark: with nine shapes and ten colours the first ninety classes differ.
MARKERS = "os^DvP*X<"
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))

FONT_SIZE = 10
_MAX_POINTS = 2000
MAX_NAMED_CLASSES = 25


def _entries(artists: Iterable[Artist]) -> tuple[list[Artist], list[str]]:
    """What a legend names: left to itself it passes over names that begin with an underscore."""
    artists = list(artists)
    return artists, [str(each.get_label()) for each in artists]


def curves_figure(panel: Sequence[Curve]) -> Figure:
    """One panel of curves over training, each chance level as a dashed line."""
    figure, axes = single_axes(5.4, 3.3)
    for number, curve in enumerate(panel):
        look = line_look(number, single=len(curve.steps) == 1)
        axes.plot(curve.steps, curve.values, linewidth=1.8, label=curve.name, **look)
    for level in sorted({curve.chance for curve in panel if curve.chance is not None}):
        axes.axhline(level, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label=f"chance level {level:.3g}")
    axes.set_xlabel(" / ".join(dict.fromkeys(curve.xlabel for curve in panel)), color=INK)
    axes.set_ylabel(" / ".join(dict.fromkeys(curve.ylabel for curve in panel)), color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.grid(color=GRID, linewidth=0.7)
    axes.margins(x=0.02, y=0.1)
    # Above the axes, so that it never covers a line.
    axes.legend(
        *_entries(axes.lines), loc="lower left", bbox_to_anchor=(0, 1.01), ncols=2, frameon=False,
        fontsize=FONT_SIZE, labelcolor=INK,
    )  # fmt: skip
    return figure


def confusion_figure(confusion: np.ndarray, class_names: Sequence[str]) -> Figure:
    """The confusion matrix: shade = share of the true class, number = images (left out where it cannot be read)."""
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(counts)
    named = size <= MAX_NAMED_CLASSES
    side = min(6.4, max(4.2, 2.2 + 0.42 * size)) if named else 6.0
    figure, axes = single_axes(side, side)
    # Opacity instead of a colour scale: an empty cell shows the page, whatever its theme.
    right, wrong = np.array([0, 114, 178]) / 255, np.array([213, 94, 0]) / 255
    image = np.zeros((size, size, 4))
    image[..., :3] = np.where(np.eye(size, dtype=bool)[..., None], right, wrong)
    image[..., 3] = shares**0.6
    axes.imshow(image, interpolation="nearest")
    axes.set_xlabel("predicted class", color=INK)
    axes.set_ylabel("true class", color=INK)
    if named:
        axes.set_xticks(range(size), [short(name) for name in class_names], rotation=45, ha="right")
        axes.set_yticks(range(size), [short(name) for name in class_names])
    if size <= 15:
        for row, column in zip(*counts.nonzero(), strict=True):
            colour = "#ffffff" if shares[row, column] > 0.6 else INK
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
    return figure


def per_class_figure(per_class: dict[str, float | None]) -> Figure:
    """Accuracy of every class, worst first (of very many classes, the 25 worst)."""
    known = sorted(((value, name) for name, value in per_class.items() if value is not None), reverse=True)
    shown = known[-MAX_NAMED_CLASSES:]
    figure, axes = single_axes(5.4, 1.0 + 0.3 * max(len(shown), 2))
    values = [100 * value for value, _ in shown]
    axes.barh(range(len(shown)), values, height=0.62, color=SERIES[0])
    for row, value in enumerate(values):
        axes.text(value + 1, row, f"{value:.0f}", va="center", color=INK, fontsize=FONT_SIZE)
    axes.set_yticks(range(len(shown)), [short(name) for _, name in shown])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("accuracy of the class, %", color=INK)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure


def feature_map_figure(positions: np.ndarray, labels: Sequence[int], class_names: Sequence[str]) -> Figure:
    """Features on a plane: colour and shape are the class, its name stands at the class's median point."""
    positions, labels = np.asarray(positions, dtype=float), np.asarray(labels)
    if len(labels) > _MAX_POINTS:
        keep = np.random.default_rng(0).choice(len(labels), _MAX_POINTS, replace=False)
        positions, labels = positions[keep], labels[keep]
    figure, axes = single_axes(6.2, 5.0)
    classes = np.unique(labels)
    for label in classes:
        name = _class_name(int(label), class_names)
        colour = MUTED if label < 0 else SERIES[label % len(SERIES)]
        marker = "." if label < 0 else MARKERS[label % len(MARKERS)]
        where = positions[labels == label]
        axes.scatter(*where.T, s=17, color=colour, marker=marker, alpha=0.75, linewidths=0, label=short(name))
    if len(classes) <= MAX_NAMED_CLASSES:
        for label in classes[classes >= 0]:
            x, y = np.median(positions[labels == label], axis=0)
            box = {"facecolor": CARD, "edgecolor": GRID, "alpha": 0.85, "boxstyle": "round,pad=0.25"}
            name = short(_class_name(int(label), class_names))
            axes.text(x, y, name, ha="center", va="center", color=INK, fontsize=9, bbox=box)
        axes.legend(
            *_entries(axes.collections),
            loc="lower left",
            bbox_to_anchor=(0, 1.01),
            ncols=5,
            frameon=False,
            fontsize=9,
            labelcolor=INK,
            handletextpad=0.2,
            columnspacing=1.2,
        )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel("t-SNE: near means similar; directions, gaps and sizes mean nothing", color=MUTED)
    return figure


def feature_map_2d(features: torch.Tensor | np.ndarray, seed: int = 0) -> np.ndarray:
    """Lay features out on a plane by t-SNE of their directions (rows are L2-normalised first, as kNN sees them).

    Args:
        features: (N, D), N at least 2. A few thousand rows take seconds on two cores.
        seed: the same seed gives the same map.

    Returns:
        (N, 2) float32; all zeros when the features have collapsed to one direction. Perplexity: 30, or (N - 1) / 3
        where that is less.

    Raises:
        ValueError: not (N, D), fewer than two rows, values that are not finite.
    """
    array = torch.as_tensor(features).detach().cpu().float()
    if array.dim() != 2 or len(array) < 2 or array.shape[1] == 0:
        raise ValueError(f"expected features (N, D) of at least two images, got {tuple(array.shape)}")
    if not torch.isfinite(array).all():
        raise ValueError("features hold values that are not finite")
    directions = torch.nn.functional.normalize(array, dim=1).numpy()
    if np.ptp(directions, axis=0).max() < 1e-6:
        return np.zeros((len(array), 2), dtype=np.float32)
    perplexity = max(1.0, min(30.0, (len(array) - 1) / 3))
    start = "pca" if array.shape[1] > 1 else "random"
    tsne = TSNE(n_components=2, perplexity=perplexity, init=start, random_state=seed)
    return tsne.fit_transform(directions).astype(np.float32)


def single_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of that many inches with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="tight")
    axes = figure.add_subplot()
    style(axes)
    return figure, axes


def style(axes: Axes) -> None:
    """The house look: dark figures, thin lines left and below only."""
    axes.tick_params(which="both", colors=INK, labelsize=FONT_SIZE, length=3)
    for side, spine in axes.spines.items():
        spine.set_color(MUTED)
        spine.set_visible(side in ("left", "bottom"))


def line_look(number: int, *, single: bool = False) -> dict:
    """Colour and dashes of a line; a single point needs a mark to be seen."""
    look = {"color": SERIES[number % len(SERIES)], "linestyle": DASHES[number % len(DASHES)]}
    return look | ({"marker": "o"} if single else {})


def label_axes(axes: Axes, *, xlabel: str = "", ylabel: str = "", title: str = "", grid: bool = True) -> None:
    """Name the axes and the image, and lay a grid behind what is drawn."""
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    if title:
        axes.set_title(title, color=INK, fontsize=FONT_SIZE + 1, fontweight="bold", loc="left")
    if grid:
        axes.grid(color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)


def _class_name(label: int, class_names: Sequence[str]) -> str:
    if label < 0:
        return "unlabelled"
    return class_names[label] if label < len(class_names) else f"class {label}"


def short(name: str, limit: int = 16) -> str:
    """A name that fits, cut out of the middle: long names often differ at their end alone."""
    tail = (limit - 1) // 2
    return name if len(name) <= limit else f"{name[: limit - 1 - tail]}…{name[-tail:]}"
