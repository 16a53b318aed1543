"""From the quickstart's runs to the report: rows, curves, map, neighbours, mistakes."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import ImageSplits
from ..evaluation.classification import ClassificationScore
from ..evaluation.features import features
from ..evaluation.knn import nearest_neighbours
from ..reports.report import Curve, Report, RunRow, feature_map_2d
from ..run import RunResult
from ..scoring.mistakes import image_array, worst_mistakes
from ..training import DataArguments
from ..training.cards import parameters, warning_lines
from ..training.fingerprint import fingerprint_line
from ..training.run_files import read_run, versions
from ..training.stores import evaluation_store

MAP_IMAGES, QUERIES, NEIGHBOURS = 600, 6, 6


@dataclass
class Seed:
    """All that one seed gave."""

    seed: int
    baseline: RunResult
    teacher: RunResult
    finetuned: RunResult
    distilled: RunResult
    long_linear: dict[str, Any]
    long_finetuned: RunResult
    student: RunResult
    ten_crop: tuple[ClassificationScore, Tensor]
    baseline_ten_crop: tuple[ClassificationScore, Tensor]
    labels: Tensor


def build_report(
    seeds: list[Seed], splits: ImageSplits, data: DataArguments, command: str, *, seconds: float
) -> Report:
    """The report of one quickstart; images are those of the first seed."""
    first = seeds[0]
    test = splits.splits["test"]
    config = first.student.model.config
    store = evaluation_store(test, config, data, "test images")
    images = {name: len(dataset) for name, dataset in splits.splits.items()}
    return Report(
        title="Fashion-VIPriors quickstart",
        subtitle=(
            f"{images['train']} labelled training images, {images.get('unlabelled', 0)} without labels, "
            f"{images['test']} test images, {len(splits.class_names)} classes, "
            f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}, {seconds / 60:.1f} minutes"
        ),
        rows=rows(seeds, len(test)),
        curves=curves(first),
        class_names=splits.class_names,
        confusion=first.student.metrics["test"]["confusion"],
        per_class=first.student.metrics["test"]["per_class"],
        **teacher_images(first, splits, data),
        mistakes=worst_mistakes(first.student.test_probabilities, first.labels, store),
        settings=settings(first),
        commands=[command],
        environment={**versions(), "machine": platform.machine(), "threads": torch.get_num_threads()},
    )


def rows(seeds: list[Seed], test_images: int) -> list[RunRow]:
    """One row a way of getting a classifier.

    Seconds count everything that way needs, phase 1 included, but not that of the teacher that ships with the package:
    nobody has to wait for it.
    """
    teacher = [seed.teacher.metrics["seconds"] for seed in seeds]
    params = parameters(seeds[0].student.model)

    def row(
        name: str, note: str, scores: list[dict], predictions: list[Tensor], times: list[float], **more: Any
    ) -> RunRow:
        return RunRow(
            name,
            note,
            top1=[s["top1"] for s in scores],
            top5=[s["top5"] for s in scores] if scores[0]["top5"] is not None else None,
            test_images=test_images,
            seconds=times,
            correct=[(a.argmax(dim=1) == seed.labels).numpy() for a, seed in zip(predictions, seeds, strict=True)],
            **({"params": params} | more),
        )

    def student_row(name: str, note: str, results: list[RunResult], before: list[float], **more: Any) -> RunRow:
        return row(
            name,
            note,
            [r.metrics["test"] for r in results],
            [r.test_probabilities for r in results],
            [r.metrics["seconds"] + b for r, b in zip(results, before, strict=True)],
            **more,
        )

    nothing = [0.0] * len(seeds)
    tuned = student_row("supervised baseline", "from scratch: CutMix, mixup, EMA, label smoothing",
                        [s.baseline for s in seeds], nothing, baseline=True)  # fmt: skip
    fine = student_row("phase 1 + fine-tuning", "same recipe, started from the teacher",
                       [s.finetuned for s in seeds], teacher)  # fmt: skip
    distilled = student_row("phase 1 + phase 2", "and held near the teacher's features (overhaul)",
                            [s.distilled for s in seeds], teacher)  # fmt: skip
    long_fine = student_row("long phase 1 + fine-tuning", "from the teacher that ships with the package",
                            [s.long_finetuned for s in seeds], nothing)  # fmt: skip
    student = student_row("long phase 1 + FixMatch", "the student: and with the images without labels",
                          [s.student for s in seeds], nothing)  # fmt: skip

    def linear_row(name: str, note: str, scores: list[dict], times: list[float]) -> RunRow:
        top1, top5 = ([score[key] for score in scores] for key in ("top1", "top5"))
        return RunRow(name, note, top1, top5, test_images=test_images, seconds=times, params=params)

    linear = linear_row("phase 1 + linear probe", "the frozen teacher and a linear classifier",
                        [s.teacher.metrics["linear"] for s in seeds], teacher)  # fmt: skip
    # The same teacher for every seed, and nothing is drawn: one value, not several that agree.
    long_linear = linear_row("long phase 1 + linear probe", "the teacher that ships with the package, frozen",
                             [seeds[0].long_linear], [0.0])  # fmt: skip
    ten = row("FixMatch, ten-crop", "the student on ten crops of each image",
              [s.ten_crop[0].to_dict() for s in seeds], [s.ten_crop[1] for s in seeds], student.seconds)  # fmt: skip
    fair = row("baseline, ten-crop", "the row to hold the student on ten crops against",
               [s.baseline_ten_crop[0].to_dict() for s in seeds], [s.baseline_ten_crop[1] for s in seeds],
               tuned.seconds)  # fmt: skip
    return [tuned, linear, fine, distilled, long_linear, long_fine, student, fair, ten]


def curve(history: list[dict], key: str, name: str, ylabel: str, *, chance: float | None = None) -> Curve:
    points = [(entry["step"], entry[key]) for entry in history if key in entry]
    return Curve(name, [s for s, _ in points], [v for _, v in points], ylabel, chance)


def curves(seed: Seed) -> list[list[Curve]]:
    """Contrastive loss with its chance level, online kNN, and validation of the three labelled runs."""
    teacher = seed.teacher.history
    labelled = (
        ("baseline", seed.baseline),
        ("fine-tuned", seed.finetuned),
        ("phase 2", seed.distilled),
        ("FixMatch", seed.student),
    )
    return [
        [curve(teacher, "loss", "contrastive loss", "loss", chance=seed.teacher.metrics.get("chance_level"))],
        [curve(teacher, "eval_knn_top1", "online kNN of the teacher", "validation top-1")],
        [curve(result.history, "eval_top1", name, "validation top-1") for name, result in labelled],
        [curve(result.history, "classification", name, "training cross-entropy") for name, result in labelled],
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
    queries = np.sort(generator.choice(len(test.labels), QUERIES, replace=False))
    index, cosine = nearest_neighbours(found["train"].values, test.values[queries], NEIGHBOURS)
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
    runs = (
        ("phase 1", seed.teacher),
        ("baseline", seed.baseline),
        ("phase 2", seed.distilled),
        ("FixMatch", seed.student),
    )
    keys = (
        "method", "backbone", "image_size", "num_train_epochs", "per_device_train_batch_size", "learning_rate",
        "optim", "weight_decay", "temperature", "margin", "mixup", "ema_decay", "label_smoothing",
        "feature_weight", "unlabelled_ratio", "confidence", "seed",
    )  # fmt: skip
    for name, run in runs:
        arguments = read_run(run.directory).settings
        chosen[name] = ", ".join(f"{k} {arguments[k]}" for k in keys if arguments.get(k) is not None)
        chosen[f"{name}, fingerprint"] = fingerprint_line(run.metrics["fingerprint"])
        if run.metrics["warnings"]:
            chosen[f"{name}, warned"] = "; ".join(warning_lines(run.metrics))
    return chosen
