"""``scripts/evaluate.py --report DIR``: what models do on a split as one page, and its images as PNG files.

The page shows the scores, confusions, a map of the features, the worst mistakes with the pixels they hang on,
reliability, corrupted images where those were scored, and the learning curves of models whose folder holds a
``trainer_state.json``. Images of one model alone are those of the first classifier.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.utils.data import Subset

from ..errors import InputError
from ..evaluation.features import features
from ..files import check_can_write, read_json, write_file
from ..hub.whole_folder import whole_folder
from ..reports.figure_files import to_png
from ..reports.model_figures import learning_curves, reliability_diagram
from ..reports.page import Section, drawing, table
from ..reports.report import Report, RunRow, feature_map_2d, html
from ..reports.report_figures import confusion_figure, feature_map_figure
from ..reports.report_text import interval, percent
from ..reports.saliency import overlaid, saliency, saliency_figure
from ..training import DataArguments
from ..training.cards import parameters, warning_lines
from ..training.fingerprint import fingerprint_line
from ..training.run_files import log_history, versions
from ..training.stores import evaluation_store
from .evaluated import Evaluated, Model
from .mistakes import worst_indices, worst_mistakes

PAGE, MAP_IMAGES = "report.html", 1000


@dataclass
class Mistakes:
    """The worst ones of the first classifier: (image, true, predicted, confidence) each, and their saliency."""

    shown: list[tuple] = field(default_factory=list)
    maps: list[np.ndarray] = field(default_factory=list)


def check_folder(directory: str) -> None:
    """Refuse, before anything is measured, to write among files that are already there.

    Raises:
        InputError: the folder holds something, is a file, or cannot be written to.
    """
    folder = Path(directory)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--report {directory} exists and is not empty: choose another folder")
    check_can_write(directory, "report")


def write_report(
    measured: Evaluated,
    data: DataArguments,
    directory: str,
    command: str,
    *,
    batch_size: int = 128,
    device: str = "cpu",
    more: list[Section] | None = None,
) -> Path:
    """Draw ``report.html`` and one PNG file an image into a folder; on an error, none of them.

    Args:
        measured: scores, predictions and models.
        data: how the data set was read.
        directory: made if need be.
        command: that makes the page again.
        batch_size, device: of the passes that images need.
        more: further sections of the page, such as corrupted images.

    Returns:
        The path of the page.
    """
    folder, names = Path(directory), measured.splits.class_names
    model = measured.models[measured.first]
    dataset = measured.splits.splits[measured.split]
    store = evaluation_store(dataset, model.config, data, f"{measured.split} images")
    positions = feature_map(model, store, batch_size=batch_size, device=device)
    mistakes = find_mistakes(measured, store, batch_size=batch_size, device=device)
    curves, diagram = training_curves(measured), reliability_of(measured)
    report = report_of(measured, command, positions, mistakes)

    figures = {"learning_curves": curves, "reliability": diagram}
    if positions is not None:
        figures["feature_map"] = feature_map_figure(*positions, names)
    if report.confusion is not None:
        figures["confusion"] = confusion_figure(np.asarray(report.confusion), names)
    if mistakes.shown:
        figures["saliency"] = saliency_figure(
            [each[0] for each in mistakes.shown], mistakes.maps, titles(mistakes, names)
        )
    overlays = [overlaid(each[0], pixels) for each, pixels in zip(mistakes.shown, mistakes.maps, strict=True)]
    sections = sections_of(measured, curves, diagram, more or [])
    with whole_folder(folder) as part:
        for name, figure in figures.items():
            if figure is not None:
                write_file(part / f"{name}.png", to_png(figure))
        write_file(part / PAGE, html(report, sections, overlays))
    return folder / PAGE


def feature_map(model: Model, store: Any, *, batch_size: int, device: str) -> tuple[np.ndarray, list[int]] | None:
    """Features of up to 1,000 images on a plane, and their labels; None of a single image."""
    if len(store) < 2:
        return None
    count = min(MAP_IMAGES, len(store))
    chosen = np.sort(np.random.default_rng(0).choice(len(store), count, replace=False)).tolist()
    found = features(model, Subset(store, chosen), batch_size=batch_size, device=device)
    return feature_map_2d(found.values), found.labels.tolist()


def find_mistakes(measured: Evaluated, store: Any, *, batch_size: int, device: str) -> Mistakes:
    """The wrong predictions made with most confidence, and the pixels that they hang on."""
    if measured.first not in measured.predictions:
        return Mistakes()
    predictions, model = measured.predictions[measured.first], measured.models[measured.first]
    worst = worst_indices(predictions.values, predictions.labels)
    if not len(worst):
        return Mistakes()
    predicted = predictions.values[worst].argmax(dim=1)
    outputs = torch.tensor(measured.orders[measured.first])[predicted]
    images = torch.stack([store[int(index)]["pixel_values"] for index in worst])
    maps = saliency(model, images, outputs, batch_size=batch_size, device=device)
    return Mistakes(worst_mistakes(predictions.values, predictions.labels, store), list(maps))


def training_curves(measured: Evaluated) -> Figure | None:
    """Of every model whose folder tells how it was trained."""
    histories: dict[str, list[dict[str, float]]] = {}
    chance: dict[str, float] = {}
    for name in measured.models:
        metrics = Path(name) / "metrics.json"
        if history := log_history(Path(name)):
            histories[measured.label(name)] = history
            level = read_json(metrics).get("chance_level") if metrics.is_file() else None
            chance |= {} if level is None else {measured.label(name): level}
    return learning_curves(histories, chance=chance, classes=len(measured.splits.class_names))


def reliability_of(measured: Evaluated) -> Figure | None:
    """Of every classifier, and of their ensemble."""
    pairs = {
        measured.label(name): (each.values.numpy(), each.labels.numpy()) for name, each in measured.predictions.items()
    }
    return reliability_diagram(pairs) if pairs else None


def report_of(
    measured: Evaluated, command: str, positions: tuple[np.ndarray, list[int]] | None, mistakes: Mistakes
) -> Report:
    """What every report shows."""
    first, count = measured.first, len(measured.splits.splits[measured.split])
    several = f"; images of one model alone: {measured.label(first)}" if len(measured.models) > 1 else ""
    score = next(iter(measured.results[first].values())) if first in measured.predictions else None
    return Report(
        title=f"{', '.join(measured.label(name) for name in measured.models)} on {measured.split_title}",
        subtitle=f"{count} {measured.kind} images, {len(measured.splits.class_names)} classes{several}",
        rows=rows(measured),
        class_names=measured.splits.class_names,
        confusion=None if score is None else score.confusion,
        per_class=None if score is None else score.per_class,
        feature_map=positions,
        mistakes=mistakes.shown,
        settings={measured.label(name): described(model) for name, model in measured.models.items()},
        verdict=verdict(measured),
        commands=[command],
        environment=versions(),
    )


def rows(measured: Evaluated) -> list[RunRow]:
    """Classifiers, and what would be used otherwise, against the first classifier; of teachers, what features know."""
    found = []
    # An ensemble is all its members.
    everything = sum(parameters(measured.models[name]) for name in measured.orders)
    for name, kinds in measured.results.items():
        predictions = measured.predictions.get(name)
        params = parameters(measured.models[name]) if name in measured.models else everything
        shown = kinds if not measured.predictions else {} if predictions is None else dict(list(kinds.items())[:1])
        for kind, score in shown.items():
            right = None if predictions is None else [(predictions.values.argmax(dim=1) == predictions.labels).numpy()]
            top5 = None if score.top5 is None else [score.top5]
            title = measured.label(name) + ("" if measured.predictions else f", {kind}")
            note = kind if measured.predictions else ""
            found.append(RunRow(title, note, [score.top1], top5, score.count, [], params, correct=right))
    found += [] if measured.compared is None else measured.compared.report.rows[1:]
    if measured.predictions and len(found) > 1:
        found[0].baseline = True
    return found


def verdict(measured: Evaluated) -> list[str]:
    """The first classifier in one sentence, and which models knew the images."""
    seen = [each.words(measured.label(name)) for name, each in measured.seen.items()]
    if measured.first not in measured.predictions:
        return seen
    score = next(iter(measured.results[measured.first].values()))
    share, worst = min((value, name) for name, value in score.per_class.items() if value is not None)
    return [
        f"{measured.label(measured.first)} is right on {percent(score.top1)} % of the images; on its worst class, "
        f"{worst}, {percent(share)} %. Its confidence is off by {percent(score.calibration_error)} points on average.",
        *seen,
        *([] if measured.compared is None else measured.compared.report.verdict),
    ]


def described(model: Model) -> str:
    """One line: network, image size, parameters."""
    config = model.config
    return f"{config.backbone}, {config.image_size} px, {parameters(model) / 1e6:.2f} M parameters"


def titles(mistakes: Mistakes, class_names: list[str]) -> list[str]:
    return [
        f"{class_names[true]}\ntaken for\n{class_names[guess]}, {100 * confidence:.0f} %"
        for _, true, guess, confidence in mistakes.shown
    ]


def sections_of(
    measured: Evaluated, curves: Figure | None, diagram: Figure | None, more: list[Section]
) -> list[Section]:
    """What only this page shows."""
    sure = Section("Is it right as often as it is sure?", wide=True)
    if diagram is not None:
        sure.how = (
            "Images by the confidence of the answer. A bar is the share that was right, stronger where there are more "
            "images; the point stands at the mean confidence, the line is its 95 % interval. Below the dashed line "
            "a model claims too much. ECE, the expected calibration error, is the mean distance from the diagonal; no "
            "temperature was fitted."
        )
        sure.cards = [
            drawing(diagram, "reliability", "Reliability of " + ", ".join(map(measured.label, measured.predictions)))
        ]
    training = Section("How it was trained", wide=True)
    if curves is not None:
        training.how = "From the run's own log. A dashed line is what guessing would give."
        training.cards = [drawing(curves, "learning", "Training loss and validation accuracy over the epochs")]
    if (runs := run_table(measured)) is not None:
        training.cards.append(runs)
    scores = Section("Every measurement", cards=[measurements(measured)], wide=True)
    return [sure, *more, training, scores]


def run_table(measured: Evaluated) -> Any:
    """Fingerprints and warnings of the models whose folder tells how they were trained; None where none does."""
    body = []
    for name in measured.models:
        file = Path(name) / "metrics.json"
        found = read_json(file) if file.is_file() else {}
        lines = [fingerprint_line(found["fingerprint"])] if found.get("fingerprint") else []
        body += [[measured.label(name), line] for line in lines + warning_lines(found)]
    return table(["model", "fingerprint, and what was warned of while it trained"], body) if body else None


def measurements(measured: Evaluated) -> Any:
    """The table of all scores."""
    head = ["model, measured by", "top-1 %", "95 % interval", "top-5 %", "balanced %", "ECE %", "images"]
    body = [
        [
            f"{measured.label(name)}, {kind}",
            percent(each.top1),
            interval(each.interval),
            percent(each.top5),
            percent(each.balanced_accuracy),
            percent(each.calibration_error),
            each.count,
        ]
        for name, kinds in measured.results.items()
        for kind, each in kinds.items()
    ]
    return table(head, body)
