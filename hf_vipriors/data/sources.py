"""Load any image data set that ``datasets`` knows into the four splits of this package."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets

from ..errors import InputError
from .columns import (
    NotLabels,
    as_image_column,
    case_hint,
    class_name,
    find_image_column,
    find_label_column,
    label_array,
    listed,
    read_labels,
    some,
)
from .label_sets import LabelledImages, unify_classes
from .loaders import load_raw
from .split_names import SPLITS


@dataclass(frozen=True)
class ImageSplits:
    """Images by split, with one numbering of the classes.

    Attributes:
        splits: ``"train"``, ``"validation"``, ``"test"``, ``"unlabelled"`` (those that exist) -> Dataset with the
            columns ``image`` (undecoded ``{"bytes", "path"}``), ``origin`` (split and row number as loaded, for error
            messages) and, except in ``unlabelled``, ``label`` (int64, 0..K-1).
        class_names: the K names; empty when nothing is labelled.
        notes: what was found and decided, one log line each.
        image_column, label_column: the columns that were read, as the data set calls them.
        unlabelled_because: why no image of train has a label, and how to mend it; None where some have one.
    """

    splits: dict[str, Dataset]
    class_names: list[str]
    notes: list[str] = field(default_factory=list)
    image_column: str | None = None
    label_column: str | None = None
    unlabelled_because: str | None = None

    @property
    def test_is_validation(self) -> bool:
        """No independent test exists: figures on ``test`` are figures on validation."""
        return "test" in self.splits and self.splits["test"] is self.splits.get("validation")

    @property
    def test_title(self) -> str:
        """What a person is told that the images of ``test`` are."""
        return "validation" if self.test_is_validation else "test"

    @property
    def labelled(self) -> Dataset:
        """The labelled images of all splits as one data set, none twice; there must be a class."""
        return concatenate_datasets([images for name, images in self.distinct.items() if name != "unlabelled"])

    @property
    def distinct(self) -> dict[str, Dataset]:
        """The splits, none twice: without ``test`` where it is validation again."""
        return {name: images for name, images in self.splits.items() if name != "test" or not self.test_is_validation}


def counts_note(splits: dict[str, Dataset]) -> str:
    """Word the number of images in every split, in their usual order."""
    return ", ".join(f"{split} {len(splits[split])}" for split in SPLITS if split in splits)


def _with_origin(images: Dataset, split: str) -> Dataset:
    rows = pc.cast(pa.array(np.arange(len(images))), pa.string())
    return images.add_column("origin", pc.binary_join_element_wise(f"{split} row", rows, " "))


def load_splits(
    dataset_name: str,
    *,
    config_name: str | None = None,
    data_dir: str | None = None,
    revision: str | None = None,
    labels: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> ImageSplits:
    """Load a data set, find its image and label columns and number its classes. No image is decoded.

    Args:
        dataset_name: ``"fashion-vipriors"`` (embedded); ``"imagefolder"`` or ``"parquet"`` with ``data_dir``; a path
            to a saved dataset, a .parquet file or a folder of them, or an image folder; else a name on the Hub. A
            local path wins over a Hub name. Remote code is never run.
        config_name: configuration of a Hub data set.
        data_dir: folder of the data.
        revision: commit, tag or branch of a Hub data set.
        labels: table of the labels of an image folder; see :func:`hf_vipriors.data.image_folder.list_image_folder`.
        image_column: when the automatic choice (named in the notes) is not the right one.
        label_column: likewise. A data set without labels is all ``unlabelled``.

    Returns:
        The splits that exist; nothing is carved here (see :func:`hf_vipriors.data.apply_protocol`). Rows with a
        hidden label (missing or -1) move to ``unlabelled``.

    Raises:
        InputError: nothing to load there, an unknown column, an empty class folder in train, or a class that train
            lacks.

    Example:
        >>> loaded = load_splits("fashion-vipriors")
        >>> len(loaded.splits["train"]), loaded.class_names[:2]
        (500, ['T-shirt/top', 'Trouser'])
    """
    raw, notes = load_raw(dataset_name, config_name, data_dir, revision, labels, label_column)
    if not any(len(raw[split]) for split in SPLITS if split in raw):
        raise InputError(f"data set {dataset_name!r} (--dataset_name) holds no images")
    return splits_of(raw, dataset_name, notes, image_column=image_column, label_column=label_column)


def splits_of(
    raw: Mapping[str, Dataset],
    title: str,
    notes: Sequence[str] = (),
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    measured: Collection[str] = (),
) -> ImageSplits:
    """Data sets that are already loaded, as the splits of this package: columns found, classes numbered alike.

    Args:
        raw: ``"train"``, ``"validation"``, ``"test"``, ``"unlabelled"`` -> :class:`datasets.Dataset` with an image
            column and perhaps a label column. Of ``unlabelled`` labels are not read.
        title: what the notes call the data.
        notes: what was decided on the way here.
        image_column, label_column: as in :func:`load_splits`.
        measured: splits that are only measured on: their images without a label are left out, not ``unlabelled``.

    Raises:
        InputError: no image, an unknown column, or classes that differ between the labelled splits.

    Example:
        >>> from datasets import Dataset, Features, Image
        >>> photos = Dataset.from_dict({"img": [None, None], "label": ["cat", "dog"]}).cast_column("img", Image())
        >>> splits_of({"train": photos}, "photos").class_names
        ['cat', 'dog']
    """
    raw = {split: raw[split] for split in SPLITS if split in raw and len(raw[split])}
    notes = list(notes)
    image = label = None
    columns: dict[str, list[str]] = {}  # "image column 'img'" -> splits in which it was chosen
    labelled: dict[str, LabelledImages] = {}
    unlabelled: list[Dataset] = []
    reasons: dict[str, str] = {}  # why a split has no label
    for split, dataset in raw.items():
        # The first split decides; a later one may lack the label column (a hidden test) but gets no other one.
        here = image
        if image not in dataset.features:  # images of another source are found by their type
            here = find_image_column(dataset.features, image_column if image is None else None)
        image = image or here
        columns.setdefault(f"image column {here!r}", []).append(split)
        images = _with_origin(as_image_column(dataset, here), split)
        if split != "unlabelled":
            try:
                label = label or find_label_column(dataset.features, label_column)
                found = read_labels(dataset, label) if label in dataset.features else None
            except NotLabels as error:
                if label_column is not None:
                    raise
                reasons[split], left_out = error.on_command_line, split in measured
                taken = "left out" if left_out else "taken as unlabelled"
                notes.append(f"{error.on_command_line}; the {len(images)} images of {split} are {taken}")
                unlabelled += [] if left_out else [images]
                continue
        if split == "unlabelled" or label not in dataset.features:
            unlabelled += [] if split in measured else [images]
            if split != "unlabelled":
                reasons[split] = f"name its column by --label_column (columns: {listed(dataset.features)})"
                taken = "are left out" if split in measured else "join the unlabelled ones"
                notes.append(f"{split} has no label column: its {len(images)} images {taken}")
        else:
            columns.setdefault(f"label column {label!r}", []).append(split)
            labelled[split] = LabelledImages(images, found)
            reasons[split] = f"all labels in its column {label!r} are hidden (-1 or missing)"

    splits, hidden, class_names, class_notes = unify_classes(labelled, measured)
    if unlabelled or hidden:
        splits["unlabelled"] = concatenate_datasets([*unlabelled, *hidden])
    chosen = "; ".join(f"{column} in {', '.join(where)}" for column, where in columns.items())
    notes += [chosen, *class_notes, f"{title}: {counts_note(splits)} images"]
    if class_names:
        notes.append(f"{len(class_names)} classes: {', '.join(class_names[:20])}{', ...' * (len(class_names) > 20)}")
    because = None if "train" in splits else reasons.get("train")
    return ImageSplits(splits, class_names, notes, image, label, because)


def numbered_as(found: ImageSplits, class_names: Sequence[str], whose: str) -> ImageSplits:
    """The same images, their labels counted in other names: those of a network that has its classes already.

    Args:
        found: splits; each of their classes must be among ``class_names``, which may have more.
        class_names: in the order of the outputs.
        whose: what knows them, for the message.

    Raises:
        InputError: images of a class that is not among them.

    Example:
        >>> from datasets import Dataset, Image
        >>> photos = Dataset.from_dict({"img": [None, None], "label": ["cat", "dog"]}).cast_column("img", Image())
        >>> again = numbered_as(splits_of({"train": photos}, "photos"), ["dog", "cat"], "the network")
        >>> again.class_names, again.splits["train"]["label"][:]
        (['dog', 'cat'], [1, 0])
    """
    number = {class_name(name): code for code, name in enumerate(class_names)}
    if unknown := [name for name in found.class_names if class_name(name) not in number]:
        raise InputError(
            f"the images have {some(unknown)}, which {whose} does not know: it has {some(class_names)}; give the name "
            "of its timm network, and it as teacher, for a classifier of these classes"
        )
    codes = np.array([number[class_name(name)] for name in found.class_names], dtype=np.int64)
    splits = {
        name: images
        if name == "unlabelled"
        else images.remove_columns("label").add_column("label", codes[label_array(images)])
        for name, images in found.splits.items()
    }
    return replace(found, splits=splits, class_names=list(class_names))


def labels_for(
    dataset: Dataset,
    class_names: Sequence[str],
    title: str,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Dataset:
    """One more data set for a model that knows its classes already: labels count in ``class_names``.

    Args:
        dataset: with an image column; without a label column, or where a label is missing, labels are -1.
        class_names: of the model, in the order of its outputs.
        title: what messages call the data set.
        image_column, label_column: as in :func:`load_splits`.

    Returns:
        A data set with the columns ``image`` (undecoded), ``origin`` and ``label`` (int64).

    Raises:
        InputError: no image column, or images of a class that the model does not know.

    Example:
        >>> from datasets import Dataset, Features, Image
        >>> photos = Dataset.from_dict({"img": [None, None], "label": ["dog", "cat"]}).cast_column("img", Image())
        >>> labels_for(photos, ["cat", "dog"], "new photos")["label"][:]
        [1, 0]
    """
    image = find_image_column(dataset.features, image_column)
    label = find_label_column(dataset.features, label_column)
    images = _with_origin(as_image_column(dataset, image), title)
    if label is None:
        return images.add_column("label", np.full(len(images), -1))
    found = read_labels(dataset, label)
    number = {class_name(name): code for code, name in enumerate(class_names)}
    here = {found.names[code] for code in np.unique(found.codes) if code >= 0}
    if unknown := sorted(here - number.keys()):
        raise InputError(
            f"{title} has images of {some(unknown)}, which the model does not know: it has learnt {some(class_names)}"
            + case_hint(unknown, class_names)
        )
    # The last entry is what code -1 picks: hidden stays hidden.
    codes = np.array([*(number.get(name, -1) for name in found.names), -1], dtype=np.int64)[found.codes]
    return images.add_column("label", codes)
