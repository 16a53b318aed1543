"""Images that a person hands to a trainer, as to any ``transformers.Trainer``: data sets or image stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import datasets
import numpy as np

from ..data import ImageSplits, PairedStore, labels_for, splits_of
from ..data.columns import label_array, listed
from ..errors import InputError
from ..methods import METHODS
from .arguments import RunArguments
from .data_arguments import DataArguments
from .resolve import complete
from .stores import Store

Images = datasets.Dataset | Store
SPLIT_OF = {"train_dataset": "train", "eval_dataset": "validation", "unlabelled_dataset": "unlabelled"}


def check_images(images: Any, name: str) -> Images:
    """``images`` as they are, where they are what a trainer takes.

    Raises:
        InputError: something else, nothing, or a transform that would not be applied, and how to make it one.

    Example:
        >>> check_images([1, 2], "train_dataset")
        Traceback (most recent call last):
        ...
        hf_vipriors.errors.InputError: train_dataset is a list, not a datasets.Dataset: Dataset.from_dict({"image": ...
    """
    if isinstance(images, Mapping):
        some = next(iter(images), "train")
        raise InputError(f"{name} is a {type(images).__name__} of several splits: give one of them, [{some!r}]")
    if isinstance(images, datasets.IterableDataset):
        raise InputError(f"{name} is an IterableDataset, whose images cannot be counted: load it without streaming")
    if not isinstance(images, Images):
        raise InputError(
            f'{name} is a {type(images).__name__}, not a datasets.Dataset: Dataset.from_dict({{"image": [...], '
            '"label": [...]}) makes one of PIL images and labels'
        )
    if not len(images):
        raise InputError(f"{name} has no rows: leave it out, or look where they went")
    if isinstance(images, datasets.Dataset) and images.format["type"] == "custom":
        raise InputError(
            f"{name} has a transform, which would not be applied, as views are made by the method: keep its result "
            "by .map(), or take it off by .with_format(None)"
        )
    return images


def splits_and_stores(
    given: dict[str, Images],
    bank: Store | None,
    args: RunArguments,
    data: DataArguments,
    class_names: Sequence[str] | None,
) -> tuple[ImageSplits, dict[str, Store] | None]:
    """Data sets as splits, or stores as they are."""
    tables = [name for name, images in given.items() if isinstance(images, datasets.Dataset)]
    if len(tables) == len(given):
        if class_names is not None:
            raise InputError(
                "class_names are of image stores; a data set names its classes itself: "
                "dataset.cast_column('label', ClassLabel(names=[...])) for labels that are numbers"
            )
        return _splits(given, args, data), None
    if tables:
        raise InputError(f"{', '.join(tables)} is a data set, others are image stores: give one kind")
    if "unlabelled_dataset" in given:
        raise InputError("image stores: put unlabelled images into a PairedStore beside the labelled ones")
    highest = {name: int(_labels(images).max(initial=-1)) for name, images in given.items()}
    names = list(class_names or [f"class {number}" for number in range(highest["train_dataset"] + 1)])
    for name, label in highest.items():
        if names and label >= len(names):
            raise InputError(f"{name} has label {label}, and there are {len(names)} classes: give class_names of all")
    stores = {SPLIT_OF[name]: images for name, images in given.items()}
    return ImageSplits({}, names), stores | ({"bank": bank} if bank is not None else {})


def _splits(given: dict[str, datasets.Dataset], args: RunArguments, data: DataArguments) -> ImageSplits:
    """Data sets as splits. Images to validate on stay that, labelled or not: nothing is trained on them."""
    columns = {"image_column": data.image_column, "label_column": data.label_column}
    raw = {SPLIT_OF[name]: images for name, images in given.items()}
    found = splits_of(raw, "train_dataset", **columns, measured=["validation"])
    student = METHODS[args.method].job == "student"
    reads = student and METHODS[args.method].reads_unlabelled(complete(args).args)
    if reads and "unlabelled" not in found.splits:
        raise InputError(f"method {args.method!r} learns from images without labels too: give unlabelled_dataset")
    if "validation" not in raw or "validation" in found.splits:
        return found
    if student:
        raise InputError(
            f"eval_dataset has no label (columns: {listed(raw['validation'].features)}), so nothing can be measured "
            "on it: give labelled images, their columns called as those of train_dataset, or these as "
            "unlabelled_dataset"
        )
    validation = raw["validation"]
    unknown = labels_for(validation, found.class_names, "eval_dataset", **columns_of(validation, found, data))
    return replace(found, splits=found.splits | {"validation": unknown})


def columns_of(images: datasets.Dataset, read: ImageSplits, data: DataArguments) -> dict[str, str | None]:
    """Of further images the columns that were read in those that were trained on, where they have such.

    Others are found by their type: images to predict have no labels.
    """
    chosen = {
        "image_column": read.image_column or data.image_column,
        "label_column": read.label_column or data.label_column,
    }
    return {option: name if name in images.features else None for option, name in chosen.items()}


def with_labels(images: datasets.Dataset) -> datasets.Dataset:
    """Those of images that have a label; all where none has."""
    known = label_array(images) >= 0
    return images if known.all() or not known.any() else images.select(np.flatnonzero(known))


def title_of(images: Images) -> str:
    """What a card calls images that were handed over."""
    known = images.info.dataset_name if isinstance(images, datasets.Dataset) else None
    return known or "images given to the trainer"


def _labels(store: Store) -> Any:
    return (store.store if isinstance(store, PairedStore) else store).labels.numpy()
