"""What the README says first: what is gained over the labels alone, and how the gain depends on their number."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..files import read_json
from ..reports.table_plots import curve_with_band
from .results_index import INDEX

HEADLINE = "headline"
PICTURE = "model_cards/gain.png"
_OPEN = "Open protocol, with 49,000 images without labels: "
# The results, how the title of the group begins, the row, and how a newcomer reads them. Rows without a gain stand
# here too: when it does not help is half of what a reader wants to know.
ROWS = (
    ("cifar10", f"{_OPEN}5 ", "phase 1 + FixMatch + propagation", "CIFAR-10", 5, "49,000"),
    ("cifar10", f"{_OPEN}50 ", "phase 1 + FixMatch", "CIFAR-10", 50, "49,000"),
    ("gem", "CIFAR-10 test", "phase 1 + fine-tuning", "CIFAR-10, a WRN-16-2", 50, "none"),
    (
        "label_next_cifar10",
        "5 labels",
        "label-next, phase 1 + FixMatch",
        "CIFAR-10, in 1,600 steps",
        "50 in all",
        "49,900",
    ),
    (
        "quickstart",
        "Fashion-VIPriors",
        "long phase 1 + label-next + FixMatch",
        "Fashion-VIPriors",
        "50 in all",
        "5,000",
    ),
    ("images_fashion", "50 labelled", "long phase 1 + FixMatch", "Fashion-VIPriors", 50, "5,000"),
)
DRAWN_FROM = "cifar10"


def _pair(figures: list[dict[str, Any]], file: str, title: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(baseline, row) of the group whose title begins so."""
    group = [each for each in figures if each["file"] == file and each["group"].startswith(title)]
    return next(each for each in group if each["baseline"]), next(each for each in group if each["row"] == name)


def headline(results: Path) -> str:
    """The table of the README, every figure from the index of what was measured."""
    figures = read_json(results / INDEX)["figures"]
    head = ["images", "labels per class", "images without labels", "labels alone", "with hf_vipriors"]
    lines = [_line([*head, "gain (95 % interval)"]), _line(["---", *["---:"] * len(head)])]
    for file, title, name, images, labels, pool in ROWS:
        baseline, row = _pair(figures, file, title, name)
        low, high = row["difference_interval"]
        sign = "▲" if low > 0 else "▼" if high < 0 else "≈"
        gain = f"{sign} {100 * row['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        ours = f"**{100 * row['mean']:.1f} %**<br>{name}"
        lines.append(_line([images, str(labels), pool, f"{100 * baseline['mean']:.1f} %", ours, gain]))
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def gain_figure(results: Path) -> Figure:
    """Accuracy by the number of labels, with labels alone and with the images without labels."""
    figures = read_json(results / INDEX)["figures"]
    lines: dict[str, tuple[list[float], list[float], list[float], list[float]]] = {}
    for file, title, name, *_ in (row for row in ROWS if row[0] == DRAWN_FROM):
        baseline, row = _pair(figures, file, title, name)
        for words, each in (("with hf_vipriors", row), ("labels alone", baseline)):
            line = lines.setdefault(words, ([], [], [], []))
            points = (baseline["values"]["images"], each["mean"], *each["interval"])
            for values, value in zip(line, points, strict=True):
                values.append(value)
    figure = curve_with_band(
        lines, title="CIFAR-10, a network of 0.70 M parameters, 49,000 images without labels",
        xlabel="labelled images per class", ylabel="test accuracy, %", log_x=True,
    )  # fmt: skip
    figure.set_size_inches(8, 3.6)
    return figure


def source(file: Path) -> str:
    """A sum of the file that a figure is drawn from: it is kept in the image, for a test to see that they agree."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
