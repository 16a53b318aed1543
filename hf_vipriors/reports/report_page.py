"""The report as one HTML page that needs nothing else: CSS inside, drawings as SVG, photographs as base64 PNG."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from PIL import Image

from . import report_figures as figures
from .page import Section, drawing, minus, render
from .report_remarks import caveats
from .report_rows import Report, RowSummary, summarise, verdict_lines
from .report_text import (
    all_verdicts,
    confused_pairs,
    difference,
    difference_interval,
    duration,
    interval,
    label_name,
    parameters,
    percent,
)

_THUMBNAIL = 112


def html(report: Report, more: Sequence[Section] = (), overlays: Sequence[np.ndarray] = ()) -> str:
    """The report as one self-contained page: no script, nothing fetched, light and dark, phone, screen and paper.

    Args:
        report: what is known of every report.
        more: further sections, shown after the images of the report.
        overlays: the images of ``report.mistakes`` under their saliency, uint8 (H, W, 3), shown below each.

    Raises:
        ValueError: an image that is not uint8 (H, W), (H, W, 1) or (H, W, 3), or not one overlay a mistake.
    """
    summaries = summarise(report)
    return render(
        "report.html.j2",
        title=report.title,
        subtitle=report.subtitle,
        more=more,
        report=report,
        verdicts=_verdicts(report, summaries),
        caveats=caveats(report),
        rows=_rows(report, summaries),
        scale=_scale(report, summaries),
        with_top5=any(summary.top5 is not None for summary in summaries),
        with_seconds=any(summary.seconds is not None for summary in summaries),
        with_params=any(row.params is not None for row in report.rows),
        curves=[_curves(panel, number) for number, panel in enumerate(report.curves) if panel],
        with_chance=any(curve.chance is not None for panel in report.curves for curve in panel),
        confusion=_confusion(report),
        per_class=_per_class(report),
        pairs=confused_pairs(report),
        feature_map=_feature_map(report),
        neighbours=_neighbours(report),
        mistakes=_mistakes(report, overlays),
    )


def data_uri(image: np.ndarray, side: int = _THUMBNAIL) -> str:
    """An image as a base64 PNG, made smaller where it is larger than ``side``, by default a thumbnail.

    Args:
        image: uint8, (H, W), (H, W, 1) or (H, W, 3).

    Raises:
        ValueError: another shape or type, which would show noise instead of the photograph.
    """
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"expected a uint8 image (H, W), (H, W, 1) or (H, W, 3), got {array.dtype} {array.shape}")
    image = Image.fromarray(array)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _verdicts(report: Report, summaries: list[RowSummary]) -> list[dict]:
    outcomes = [summary.outcome for summary in summaries if summary.outcome is not None]
    # One measured line a compared row, in the order of the rows; other lines carry no sign.
    signs = outcomes if len(outcomes) == len(verdict_lines(report)) else []
    lines = all_verdicts(report)
    return [
        {"text": minus(line), "outcome": signs[number] if number < len(signs) else "note"}
        for number, line in enumerate(lines)
    ]


def _rows(report: Report, summaries: list[RowSummary]) -> list[dict]:
    scale = _scale(report, summaries)
    rows = []
    for row, summary in zip(report.rows, summaries, strict=True):
        low, high = summary.interval or (summary.top1, summary.top1)
        rows.append(
            {
                "name": row.name,
                "note": row.note,
                "baseline": row.baseline,
                "top1": percent(summary.top1),
                "interval": interval(summary.interval),
                "difference": minus(difference(summary)),
                "difference_interval": minus(difference_interval(summary)),
                "outcome": summary.outcome or "none",
                "p_value": summary.p_value,
                "top5": percent(summary.top5),
                "seconds": duration(summary.seconds),
                "params": parameters(row.params),
                "seeds": summary.seeds,
                "left": scale["place"](low),
                "width": scale["place"](high) - scale["place"](low),
                "dot": scale["place"](summary.top1),
                "seed_dots": [scale["place"](value) for value in row.top1] if summary.seeds > 1 else [],
            }
        )
    return rows


def _scale(report: Report, summaries: list[RowSummary]) -> dict:
    """The common axis of the interval bars: where a fraction lies (0 to 100), the ticks, the baseline."""
    ends = [end for summary in summaries for end in (summary.interval or (summary.top1,))]
    ends += [value for row in report.rows for value in row.top1]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    raw = max(high - low, 0.005) / 4
    step = next(size for size in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5) if size >= raw or size == 0.5)
    # A rounding error must not add an empty tick at either end.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = [number * step for number in range(first, last + 1)]

    def place(value: float) -> float:
        return 100 * (value - ticks[0]) / (ticks[-1] - ticks[0])

    digits = 0 if step >= 0.01 else 1
    baseline = next((summary.top1 for summary in summaries if summary.baseline), None)
    return {
        "place": place,
        "ticks": [{"at": place(tick), "text": f"{100 * tick:.{digits}f}"} for tick in ticks],
        "baseline": None if baseline is None else place(baseline),
    }


def _curves(panel: list, number: int) -> Markup:
    parts = []
    for curve in panel:
        chance = "" if curve.chance is None else f", chance level {curve.chance:.3g}"
        parts.append(f"{curve.name}: {curve.ylabel} from {curve.values[0]:.3g} to {curve.values[-1]:.3g}{chance}")
    return drawing(figures.curves_figure(panel), f"curves{number}", "Curves over training. " + "; ".join(parts))


def _confusion(report: Report) -> Markup | None:
    if report.confusion is None:
        return None
    figure = figures.confusion_figure(np.asarray(report.confusion), report.class_names)
    worst = "; ".join(f"{true} taken for {guess} {count} times" for true, guess, count, _ in confused_pairs(report))
    return drawing(
        figure, "confusion", f"Confusion matrix of {len(report.class_names)} classes. Most frequent: {worst}"
    )


def _per_class(report: Report) -> Markup | None:
    known = {name: value for name, value in (report.per_class or {}).items() if value is not None}
    if not known:
        return None
    text = "; ".join(f"{name} {percent(value)} %" for name, value in known.items())
    return drawing(figures.per_class_figure(known), "classes", f"Accuracy of each class: {text}")


def _feature_map(report: Report) -> Markup | None:
    if report.feature_map is None or len(report.feature_map[1]) == 0:
        return None
    figure = figures.feature_map_figure(*report.feature_map, report.class_names)
    return drawing(figure, "map", f"t-SNE map of {len(report.feature_map[1])} feature vectors, coloured by class")


def _neighbours(report: Report) -> list[dict]:
    names = report.class_names
    found = []
    for image, label, near in report.neighbours:
        query = label_name(label, names)
        images = []
        for similar, other, cosine in near:
            name = label_name(other, names)
            mark = "note" if "unlabelled" in (name, query) else "right" if name == query else "wrong"
            images.append({"src": data_uri(similar), "name": name, "cosine": f"{float(cosine):.2f}", "mark": mark})
        found.append({"src": data_uri(image), "name": query, "near": images})
    return found


def _mistakes(report: Report, overlays: Sequence[np.ndarray]) -> list[dict]:
    if len(overlays) not in (0, len(report.mistakes)):
        raise ValueError(f"{len(overlays)} overlays for {len(report.mistakes)} mistakes")
    below = [data_uri(overlay) for overlay in overlays] or [None] * len(report.mistakes)
    return [
        {
            "src": data_uri(image),
            "below": overlay,
            "true": label_name(true, report.class_names),
            "predicted": label_name(guess, report.class_names),
            "confidence": f"{100 * float(confidence):.0f} %",
        }
        for (image, true, guess, confidence), overlay in zip(report.mistakes, below, strict=True)
    ]
