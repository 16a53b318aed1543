"""``scripts/evaluate.py`` on images unlike the training ones: corrupted, or from a second data set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from rich.table import Table
from torch import Tensor

from ..data import ImageSplits, load_splits
from ..data.columns import match_classes
from ..errors import InputError, one_line
from ..evaluation.classification import ClassificationScore, score
from ..evaluation.features import probabilities
from ..evaluation.robustness import robustness
from ..models import VipriorsForImageClassification
from ..reports.page import Section, drawing
from ..reports.table_plots import heatmap
from ..training import DataArguments
from ..training.stores import evaluation_store, ten_crop_store
from ..views.corruptions import SEVERITIES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SecondSet:
    """Labelled images from elsewhere; ``names`` are the classes in the order of their labels."""

    title: str
    images: Dataset
    names: list[str]


def second_set(dataset_name: str | None, data_dir: str | None, class_names: Sequence[str]) -> SecondSet:
    """Load the test split of a data set with the same classes, or all its labelled images where it has none.

    Args:
        dataset_name: as ``--dataset_name``; None: imagefolder.
        data_dir: as ``--data_dir``.
        class_names: the classes that the models know.

    Raises:
        InputError: nothing to load there, no labels, or other classes.
    """
    try:
        found = load_splits(dataset_name or "imagefolder", data_dir=data_dir)
    except InputError as error:
        raise InputError(f"second data set (--ood_dataset_name, --ood_data_dir): {one_line(error, None)}") from None
    title = Path(data_dir or dataset_name).name
    problem = f"{title} (--ood_dataset_name, --ood_data_dir) and the data set have different classes"
    match_classes(found.class_names, class_names, problem, "both must name the same ones")
    split = "test" if "test" in found.splits else "all labelled images"
    images = found.splits["test"] if "test" in found.splits else found.labelled
    logger.info("second data set %s: %s, %d images", title, split, len(images))
    return SecondSet(title, images, found.class_names)


def second_score(
    model: VipriorsForImageClassification,
    second: SecondSet,
    order: Sequence[int],
    class_names: Sequence[str],
    data: DataArguments,
    *,
    ten_crop: bool,
    batch_size: int,
    device: str,
) -> ClassificationScore:
    """A classifier on the second data set; ``order``: which of its outputs answers for each of ``class_names``."""
    make = ten_crop_store if ten_crop else evaluation_store
    store = make(second.images, model.config, data, second.title)
    found = probabilities(model, store, ten_crop=ten_crop, batch_size=batch_size, device=device)
    columns = [order[list(class_names).index(name)] for name in second.names]
    values: Tensor = found.values[:, columns]
    return score(values, found.labels, second.names)


def corrupted_scores(
    model: VipriorsForImageClassification,
    splits: ImageSplits,
    split: str,
    order: Sequence[int],
    data: DataArguments,
    *,
    ten_crop: bool,
    batch_size: int,
    device: str,
) -> dict[str, Any]:
    """What :func:`~hf_vipriors.evaluation.robustness.robustness` says of a classifier on a split."""
    make = ten_crop_store if ten_crop else evaluation_store
    store = make(splits.splits[split], model.config, data, split)
    return robustness(model, store, order=order, ten_crop=ten_crop, batch_size=batch_size, device=device)


def corruption_table(found: dict[str, Any], model: str, split: str) -> Table:
    """Corruption x severity, in percent, with the means in the last column and row."""
    table = Table(title=f"Top-1 of {model} on corrupted {split} images, % (clean {100 * found['clean']:.1f})")
    table.add_column("severity")
    for severity in SEVERITIES:
        table.add_column(str(severity), justify="right")
    table.add_column("mean", justify="right")
    rows = list(found["per_corruption"].items())
    for name, values in rows:
        mean = sum(values) / len(values)
        table.add_row(name.replace("_", " "), *(f"{100 * value:.1f}" for value in values), f"{100 * mean:.1f}")
    table.add_section()
    columns = zip(*(values for _, values in rows), strict=True)
    table.add_row("mean", *(f"{100 * sum(c) / len(c):.1f}" for c in columns), f"{100 * found['top1']:.1f}")
    return table


def corruption_section(found: dict[str, dict[str, Any]], split: str) -> Section:
    """A heat map of each model for the page of ``--report``; ``found``: what a model is called -> its figures."""
    cards = []
    for number, (model, each) in enumerate(found.items()):
        values = each["per_corruption"]
        figure = heatmap(
            np.array(list(values.values())),
            [name.replace("_", " ") for name in values],
            [str(severity) for severity in SEVERITIES],
            title=f"{model}: {100 * each['top1']:.1f} % on average, {100 * each['clean']:.1f} % clean",
            xlabel="severity",
            ylabel="",
        )
        cards.append(drawing(figure, f"corruptions{number}", f"Top-1 of {model} by corruption and severity"))
    how = (
        f"Top-1 in percent on {split} images as bad cameras, weather and codecs would make them; the model never met "
        "such images unless its augmentation made similar ones."
    )
    return Section("Corrupted images", how, cards)
