"""Load any image data set that ``datasets`` knows into the four splits of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset, load_from_disk

from ..disk_errors import CACHE, explain_disk_error
from ..errors import InputError, nearest, one_line
from .columns import (
    NotLabels,
    as_image_column,
    class_name,
    find_image_column,
    find_label_column,
    label_array,
    read_labels,
    some,
)
from .fashion import FASHION_VIPRIORS, fashion_files
from .image_files import is_hidden
from .image_folder import list_image_folder
from .label_sets import LabelledImages, unify_classes
from .label_table import METADATA
from .split_names import LABELLED_SPLITS, SPLITS, canonical_split, split_of_file

_BUILT_IN = (FASHION_VIPRIORS, "imagefolder", "parquet")


@dataclass(frozen=True)
class ImageSplits:
    """Images by split, with one numbering of the classes.

    Attributes:
        splits: ``"train"``, ``"validation"``, ``"test"``, ``"unlabelled"`` (those that exist) -> Dataset with the
            columns ``image`` (undecoded ``{"bytes", "path"}``), ``origin`` (split and row number as loaded, for error
            messages) and, except in ``unlabelled``, ``label`` (int64, 0..K-1).
        class_names: the K names; empty when nothing is labelled.
        notes: what was found and decided, one log line each.
    """

    splits: dict[str, Dataset]
    class_names: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def test_is_validation(self) -> bool:
        """No independent test exists: figures on ``test`` are figures on validation."""
        return "test" in self.splits and self.splits["test"] is self.splits.get("validation")


def counts_note(splits: dict[str, Dataset]) -> str:
    """Word the number of images in every split, in their usual order."""
    return ", ".join(f"{split} {len(splits[split])}" for split in SPLITS if split in splits)


def _loaded(load: Callable[[], Dataset | DatasetDict], what: str, mend: str) -> Dataset | DatasetDict:
    """Call a loader of ``datasets``; whatever it raises (network, schema, script, file errors) becomes one line."""
    try:
        return load()
    except Exception as error:
        full = explain_disk_error(error, unnamed=CACHE)
        reason = full or f"{one_line(error)}; {mend}"
        raise InputError(f"cannot load {what} (--dataset_name): {reason}") from error


def _named(loaded: Dataset | DatasetDict) -> tuple[dict[str, Dataset], list[str]]:
    """Translate split names; the first of two names for the same split wins, and others are passed over."""
    if isinstance(loaded, Dataset):
        return {"train": loaded}, ["a single split: it is taken as train"]
    splits: dict[str, Dataset] = {}
    passed_over = []
    for name, dataset in loaded.items():
        split = canonical_split(name)
        if split is None or split in splits:
            passed_over.append(name)
        else:
            splits[split] = dataset
    if not splits:
        raise InputError(f"none of the splits {some(loaded)} is called {some(SPLITS)}: rename one, or save it alone")
    return splits, [f"splits passed over: {', '.join(passed_over)}"] if passed_over else []


def _load_fashion() -> dict[str, Dataset]:
    # Read into memory: at 4 MiB no copy in the datasets cache is needed, and a read-only home does not matter.
    return {split: Dataset(pq.read_table(path)) for split, path in fashion_files().items()}


def _parquet_files(path: Path) -> dict[str, list[str]]:
    """Sort parquet files into splits: by the beginning of the file name, else by a folder above it, else train."""
    if path.is_file():
        return {"train": [str(path)]}
    by_split: dict[str, list[str]] = {}
    for file in sorted(path.rglob("*.parquet")):
        inside = file.relative_to(path)
        if any(is_hidden(part) for part in inside.parts):
            continue
        folders = [canonical_split(part) for part in reversed(inside.parts[:-1])]
        split = next(filter(None, [split_of_file(file.stem), *folders]), "train")
        by_split.setdefault(split, []).append(str(file))
    return by_split


def _load_parquet(path: Path) -> dict[str, Dataset]:
    files = _parquet_files(path) if path.exists() else {}
    if not files:
        raise InputError(f"no parquet file at {str(path)!r}: give a .parquet file or a folder that holds some")

    # One call a split: an unlabelled split has other columns than the rest, which one call would refuse.
    def load(split: str) -> Dataset:
        return load_dataset("parquet", data_files={split: files[split]}, split=split)

    mend = "the files of one split must be readable and share their columns"
    return {split: _loaded(partial(load, split), f"{split} of {str(path)!r}", mend) for split in files}


def _load_path(path: Path, label_column: str | None) -> tuple[dict[str, Dataset], list[str]]:
    """A saved dataset, parquet, or an image folder that was named directly."""
    if path.is_dir() and ((path / "dataset_dict.json").exists() or (path / "state.json").exists()):
        return _named(_loaded(lambda: load_from_disk(str(path)), repr(str(path)), "save it again with save_to_disk"))
    if path.is_file() and path.suffix != ".parquet":
        raise InputError(
            f"{str(path)!r} (--dataset_name) is no .parquet file: give parquet, a folder saved by save_to_disk, "
            "or a folder of images by --data_dir"
        )
    if path.is_file() or any(file.name not in METADATA for file in path.rglob("*.parquet")):
        return _load_parquet(path), []
    return list_image_folder(path, label_column=label_column)


def _load_hub(
    name: str, config_name: str | None, data_dir: str | None, revision: str | None
) -> tuple[dict[str, Dataset], list[str]]:
    close = nearest(name, _BUILT_IN)
    mend = close if close.startswith("did you mean") else "check the name, --dataset_config and the network"
    # No trust_remote_code: a data set that needs its own program is refused by datasets itself.
    return _named(
        _loaded(
            lambda: load_dataset(name, config_name, data_dir=data_dir, revision=revision), f"data set {name!r}", mend
        )
    )


def _refuse(source: str, **options: str | None) -> None:
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if given:
        raise InputError(f"{' and '.join(given)} cannot go with {source} (--dataset_name): leave it out")


def _load(
    name: str,
    config_name: str | None,
    data_dir: str | None,
    revision: str | None,
    labels: str | None,
    label_column: str | None,
) -> tuple[dict[str, Dataset], list[str]]:
    """Choose the loader by the name."""
    if name != "imagefolder":
        _refuse(repr(name), labels=labels)
    if name in ("imagefolder", "parquet"):
        _refuse(name, dataset_config=config_name, dataset_revision=revision)
        if data_dir is None:
            raise InputError(f"--dataset_name {name} needs --data_dir: the folder that holds the data")
        if name == "imagefolder":
            return list_image_folder(data_dir, labels, label_column)
        return _load_parquet(Path(data_dir).expanduser()), []
    path = Path(name).expanduser()
    looks_like_path = path.is_absolute() or name.startswith(("./", "../", "~")) or path.suffix == ".parquet"
    if name == FASHION_VIPRIORS:
        _refuse(name, dataset_config=config_name, data_dir=data_dir, dataset_revision=revision)
        return _load_fashion(), []
    if name and path.exists():
        _refuse(f"the local path {name!r}", dataset_config=config_name, data_dir=data_dir, dataset_revision=revision)
        return _load_path(path, label_column)
    if looks_like_path or not name:
        raise InputError(f"no such file or folder {name!r} (--dataset_name): check the path")
    return _load_hub(name, config_name, data_dir, revision)


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
    raw, notes = _load(dataset_name, config_name, data_dir, revision, labels, label_column)
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
) -> ImageSplits:
    """Data sets that are already loaded, as the splits of this package: columns found, classes numbered alike.

    Args:
        raw: ``"train"``, ``"validation"``, ``"test"``, ``"unlabelled"`` -> :class:`datasets.Dataset` with an image
            column and perhaps a label column. Of ``unlabelled`` labels are not read.
        title: what the notes call the data.
        notes: what was decided on the way here.
        image_column, label_column: as in :func:`load_splits`.

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
    for split, dataset in raw.items():
        # The first split decides; a later one may lack the label column (a hidden test) but gets no other one.
        if image not in dataset.features:
            image = find_image_column(dataset.features, image_column)
        columns.setdefault(f"image column {image!r}", []).append(split)
        images = _with_origin(as_image_column(dataset, image), split)
        if split != "unlabelled":
            try:
                label = label or find_label_column(dataset.features, label_column)
                found = read_labels(dataset, label) if label in dataset.features else None
            except NotLabels as error:
                if label_column is not None:
                    raise
                notes.append(f"{error.on_command_line}; the {len(images)} images of {split} are taken as unlabelled")
                unlabelled.append(images)
                continue
        if split == "unlabelled" or label not in dataset.features:
            unlabelled.append(images)
            if split != "unlabelled":
                notes.append(f"{split} has no label column: its {len(images)} images join the unlabelled ones")
        else:
            columns.setdefault(f"label column {label!r}", []).append(split)
            labelled[split] = LabelledImages(images, found)

    splits, hidden, class_names, class_notes = unify_classes(labelled)
    if unlabelled or hidden:
        splits["unlabelled"] = concatenate_datasets([*unlabelled, *hidden])
    chosen = "; ".join(f"{column} in {', '.join(where)}" for column, where in columns.items())
    notes += [chosen, *class_notes, *_missing_classes(splits, class_names), f"{title}: {counts_note(splits)} images"]
    if class_names:
        notes.append(f"{len(class_names)} classes: {', '.join(class_names[:20])}{', ...' * (len(class_names) > 20)}")
    return ImageSplits(splits, class_names, notes)


def _missing_classes(splits: Mapping[str, Dataset], class_names: list[str]) -> list[str]:
    notes = []
    for split in (each for each in LABELLED_SPLITS if each in splits):
        here = set(label_array(splits[split]).tolist())
        if missing := [name for code, name in enumerate(class_names) if code not in here]:
            notes.append(f"{split} has no image of class {some(missing)}: it says nothing of it")
    return notes


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
        )
    # The last entry is what code -1 picks: hidden stays hidden.
    codes = np.array([*(number.get(name, -1) for name in found.names), -1], dtype=np.int64)[found.codes]
    return images.add_column("label", codes)
