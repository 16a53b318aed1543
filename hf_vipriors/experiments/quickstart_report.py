"""From the quickstart's runs to the report: rows, curves, map, neighbours, mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..data import FASHION_VIPRIORS, ImageSplits
from ..evaluation.features import features
from ..evaluation.knn import nearest_neighbours
from ..reports.report import Curve, Report, RunRow, feature_map_2d
from ..reports.report_rows import points, summarise
from ..run import RunResult
from ..scoring.mistakes import image_array, worst_mistakes
from ..training import DataArguments
from ..training.cards import dataset_title, parameters, warning_lines
from ..training.fingerprint import fingerprint_line
from ..training.run_files import read_run, versions
from ..training.stores import evaluation_store
from .provenance import provenance

MAP_IMAGES, QUERIES, NEIGHBOURS = 600, 6, 6


@dataclass
class Seed:
    """All that one seed gave.

    Attributes:
        teacher: phase 1 of this quickstart, the same for all seeds.
        finetuned: from it.
        linear: scores of the frozen teacher that the students start from: ``teacher``, or the one that ships.
        long_finetuned: from the teacher that ships with the package; None where the images are others.
        distilled: held near that teacher's features; None with few labels.
        fixmatch: from it, with the images without labels; None with many labels.
        student: likewise, with few labels on images that the teacher has chosen.
        labels: ``(N,)`` of the test images.
    """

    seed: int
    baseline: RunResult
    teacher: RunResult
    finetuned: RunResult
    linear: dict[str, Any]
    long_finetuned: RunResult | None
    distilled: RunResult | None
    fixmatch: RunResult | None
    student: RunResult
    labels: Tensor

    def labelled(self) -> dict[str, RunResult]:
        """The runs that learn from labels, from this quickstart's own teacher or from the one that ships."""
        own = self.long_finetuned or self.finetuned
        found = {"baseline": self.baseline, "fine-tuned": own, "phase 2": self.distilled, "FixMatch": self.fixmatch}
        found |= {"FixMatch" if self.fixmatch is None else "label-next + FixMatch": self.student}
        return {name: run for name, run in found.items() if run is not None}


def build_report(
    seeds: list[Seed], splits: ImageSplits, data: DataArguments, command: str, *, seconds: float
) -> Report:
    """The report of one quickstart; images are those of the first seed."""
    first = seeds[0]
    test, scored = splits.splits["test"], splits.test_title
    config = first.student.model.config
    store = evaluation_store(test, config, data, f"{scored} images")
    images = {name: len(dataset) for name, dataset in splits.splits.items()}
    # With as many labels a class as there are, every seed has the same.
    choices = len({seed.baseline.metrics["fingerprint"]["data"] for seed in seeds})
    seeds_said = "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    several = f"{choices} choices of the labelled images" if choices > 1 else seeds_said
    name = "Fashion-VIPriors" if data.dataset_name == FASHION_VIPRIORS else dataset_title(data)
    shown = rows(seeds, len(test))
    return Report(
        title=f"{name} quickstart",
        subtitle=(
            f"{images['train']} labelled training images ({labels_a_class(splits)} of each of "
            f"{len(splits.class_names)} classes), {images.get('unlabelled', 0):,} without labels, "
            f"{images['test']:,} {scored} images, {several}, {seconds / 60:.1f} minutes"
        ),
        rows=shown,
        scored=scored,
        verdict=[plain_words(shown, splits, data, chosen=first.fixmatch is not None)],
        curves=curves(first),
        class_names=splits.class_names,
        confusion=first.student.metrics["test"]["confusion"],
        per_class=first.student.metrics["test"]["per_class"],
        **teacher_images(first, splits, data),
        mistakes=worst_mistakes(first.student.test_probabilities, first.labels, store),
        settings=settings(first),
        commands=[command],
        environment=versions() | provenance(),
    )


def labels_a_class(splits: ImageSplits) -> int:
    """Those that are trained on: of few images some may be set aside for validation."""
    return len(splits.splits["train"]) // len(splits.class_names)


def plain_words(shown: list[RunRow], splits: ImageSplits, data: DataArguments, *, chosen: bool) -> str:
    """What the images without labels gave the student, the last row, and when not to expect it.

    Where the student's labels were ``chosen``, the row above it has those of the baseline: it tells what the images
    gave, and the last what both gave.
    """
    *_, same, last = summarise(Report("", "", shown))
    student = same if chosen else last
    low, high = (points(end) for end in student.difference_interval)
    pool = f"{len(splits.splits.get('unlabelled', ())):,} images without labels"
    labels = f"{labels_a_class(splits)} labels a class"
    if student.outcome == "better":
        gain = (
            f"{pool} were worth {points(student.difference)} points ({low} to {high}) beside {labels}, of which "
            "labels alone may make up some when they train longer"
        )
    elif student.outcome == "worse":
        gain = f"{pool} cost {points(-student.difference, sign=False)} points ({low} to {high}) beside {labels}"
    else:
        gain = f"{pool} made no difference beside {labels} that this could show ({low} to {high} points)"
    nothing = "Expect nothing where labels alone come near what the network can learn"
    if data.dataset_name == FASHION_VIPRIORS:
        nothing += (
            " (here with --images_per_class 50), and more on harder images, such as CIFAR-10 (model_cards/RESULTS.md)"
        )
    if chosen:
        low, high = (points(end) for end in last.difference_interval)
        gain += (
            f". With as many labels on the images that label-next asks for it is {points(last.difference)} points "
            f"({low} to {high})"
        )
    return f"In plain words: {gain}. {nothing}."


def rows(seeds: list[Seed], test_images: int) -> list[RunRow]:
    """One row a way of getting a classifier.

    Seconds count everything that way needs, phase 1 included, but not that of the teacher that ships with the package:
    nobody has to wait for it. The choice of what to label, seconds for some thousand images, is not counted either.
    """
    params = parameters(seeds[0].student.model)
    phase_1 = seeds[0].teacher.metrics["seconds"] or 0.0
    ships = seeds[0].long_finetuned is not None
    long, before = ("long phase 1", 0.0) if ships else ("phase 1", phase_1)

    def row(name: str, note: str, results: list[RunResult], before: float, **more: Any) -> RunRow:
        scores = [result.metrics["test"] for result in results]
        found = [result.test_probabilities.argmax(dim=1) for result in results]
        return RunRow(
            name,
            note,
            top1=[score["top1"] for score in scores],
            top5=[score["top5"] for score in scores] if scores[0]["top5"] is not None else None,
            test_images=test_images,
            seconds=[result.metrics["seconds"] + before for result in results],
            correct=[(each == seed.labels).numpy() for each, seed in zip(found, seeds, strict=True)],
            params=params,
            **more,
        )

    ended = "; then label propagation" if "propagation" in seeds[0].finetuned.metrics else ""
    shown = [
        row("labels alone", "from scratch, the strongest recipe", [s.baseline for s in seeds], 0.0, baseline=True),
        row("phase 1 + fine-tuning", "the same recipe, from the teacher trained here" + ended,
            [s.finetuned for s in seeds], phase_1),
    ]  # fmt: skip
    top1, top5 = ([seed.linear[key] for seed in seeds] for key in ("top1", "top5"))
    which = "the teacher that ships with the package" if ships else "that teacher"
    shown.append(RunRow(
        f"{long} + linear probe", f"{which}, frozen", top1, top5 if top5[0] is not None else None,
        test_images=test_images, seconds=[before] * len(seeds), params=params,
    ))  # fmt: skip
    if ships:
        found = [s.long_finetuned for s in seeds]
        shown.append(row(f"{long} + fine-tuning", "from that teacher" + ended, found, before))
    if seeds[0].distilled is not None:
        shown.append(row(f"{long} + phase 2", "and held near its features (overhaul)",
                         [s.distilled for s in seeds], before))  # fmt: skip
    with_pool = "with the images without labels, then label propagation"
    chosen = seeds[0].fixmatch is not None
    note = with_pool if chosen else f"the student: {with_pool}"
    shown.append(row(f"{long} + FixMatch", note, [s.fixmatch or s.student for s in seeds], before))
    if chosen:
        note = "the student: likewise, as many labels on images that the teacher chose"
        shown.append(row(f"{long} + label-next + FixMatch", note, [s.student for s in seeds], before))
    return shown


def curve(history: list[dict], key: str, name: str, ylabel: str, *, chance: float | None = None) -> Curve:
    points = [(entry["step"], entry[key]) for entry in history if key in entry]
    return Curve(name, [s for s, _ in points], [v for _, v in points], ylabel, chance)


def curves(seed: Seed) -> list[list[Curve]]:
    """Contrastive loss with its chance level, online kNN, and validation of the labelled runs."""
    teacher = seed.teacher.history
    labelled = seed.labelled()
    return [
        [curve(teacher, "loss", "contrastive loss", "loss", chance=seed.teacher.metrics.get("chance_level"))],
        [curve(teacher, "eval_knn_top1", "online kNN of the teacher", "validation top-1")],
        [curve(result.history, "eval_top1", name, "validation top-1") for name, result in labelled.items()],
        [curve(result.history, "classification", name, "training cross-entropy") for name, result in labelled.items()],
    ]


def teacher_images(seed: Seed, splits: ImageSplits, data: DataArguments) -> dict[str, Any]:
    """The 2-D map of the teacher's features and, for a few test images, their nearest training images."""
    model = seed.teacher.model
    device = next(model.parameters()).device
    names = splits.class_names
    stores = {
        name: evaluation_store(splits.splits[name], model.config, data, f"{name}, teacher")
        for name in ("train", "test")
    }
    found = {name: features(model, store, device=device) for name, store in stores.items()}
    test = found["test"]
    generator = np.random.default_rng(0)
    chosen = np.sort(generator.choice(len(test.labels), min(MAP_IMAGES, len(test.labels)), replace=False))
    queries = np.sort(generator.choice(len(test.labels), min(QUERIES, len(test.labels)), replace=False))
    index, cosine = nearest_neighbours(
        found["train"].values, test.values[queries], min(NEIGHBOURS, len(found["train"].labels))
    )
    neighbours = [
        (
            image_array(stores["test"], int(query)),
            names[test.labels[query]],
            [
                (image_array(stores["train"], int(i)), names[found["train"].labels[i]], float(c))
                for i, c in zip(index[row], cosine[row], strict=True)
            ],
        )
        for row, query in enumerate(queries)
    ]
    positions = feature_map_2d(test.values[chosen], seed=0)
    return {"feature_map": (positions, test.labels[chosen].tolist()), "neighbours": neighbours}


def settings(seed: Seed) -> dict[str, Any]:
    """What decides the numbers, read back from the runs' own files."""
    chosen: dict[str, Any] = {}
    runs = {"phase 1": seed.teacher} | seed.labelled()
    keys = (
        "method", "backbone", "image_size", "num_train_epochs", "max_steps", "per_device_train_batch_size",
        "learning_rate", "optim", "weight_decay", "temperature", "margin", "mixup", "ema_decay", "label_smoothing",
        "feature_weight", "unlabelled_ratio", "confidence", "seed",
    )  # fmt: skip
    for name, run in runs.items():
        arguments = read_run(run.directory).settings
        chosen[name] = ", ".join(f"{k} {arguments[k]}" for k in keys if arguments.get(k) is not None)
        chosen[f"{name}, fingerprint"] = fingerprint_line(run.metrics["fingerprint"])
        if run.metrics["warnings"]:
            chosen[f"{name}, warned"] = "; ".join(warning_lines(run.metrics))
    return chosen
