"""What the command line asks of a table, and the options of its runs, for comparison."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..training import DataArguments
from .table_jobs import Settings


@dataclass(frozen=True)
class TableRequest:
    """What the command line asks of a table.

    Attributes:
        folder: where runs and results go.
        recipes: folder of the recipes.
        seeds: of every run that is not made once; those are made with the first.
        length: factor of all epochs and steps.
        dataset: in place of the data set of every run.
        trials: in place of the number of trials of every run that searches.
    """

    folder: Path
    recipes: Path
    seeds: Sequence[int]
    length: float = 1.0
    dataset: str | None = None
    trials: int | None = None


def place(data: DataArguments) -> tuple:
    """Where the images come from."""
    return data.dataset_name, data.dataset_config, data.data_dir, data.labels


def plain(data: DataArguments, settings: Settings) -> dict[str, Any]:
    """All options, as they are read back from a run's file."""
    return json.loads(json.dumps({**vars(data), **settings.to_dict()}, default=str))


def on_dataset(data: DataArguments, name: str | None) -> DataArguments:
    """The same protocol on another data set: whatever ``--dataset_name`` takes, or a folder; None: as it is.

    Example:
        >>> on_dataset(DataArguments(images_per_class=50, label_column="label"), "cifar10")
        DataArguments(dataset_name='cifar10', ..., label_column=None, images_per_class=50, ...)
    """
    if name is None:
        return data
    of_the_other = ("dataset_config", "dataset_revision", "data_dir", "labels", "image_column", "label_column")
    return replace(data, dataset_name=name, **dict.fromkeys(of_the_other))
