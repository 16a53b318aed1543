"""List an image folder ourselves: every rule is in the open and no image is opened yet."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, Image

from ..errors import InputError
from .split_names import LABELLED_SPLITS, canonical_split

IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)


def is_hidden(name: str) -> bool:
    """Files and folders that file managers and notebooks leave behind."""
    return name.startswith(".") or name == "__MACOSX"


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not is_hidden(entry.name))


def _images(root: Path) -> Iterator[str]:
    """Absolute paths of the images below ``root`` in sorted order; links to folders are followed, to each once."""
    seen = set()
    for folder, subfolders, files in os.walk(os.path.abspath(root), followlinks=True):
        if (place := os.path.realpath(folder)) in seen:  # a link back to a folder above would never end
            subfolders.clear()
            continue
        seen.add(place)
        subfolders[:] = sorted(name for name in subfolders if not is_hidden(name))
        for name in sorted(files):
            if not is_hidden(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield os.path.join(folder, name)


def _text(paths: list[str]) -> pa.Array:
    try:
        return pa.array(paths, pa.string())
    except UnicodeEncodeError as error:  # bytes that are no UTF-8, as Python keeps them in a path
        name = os.fsencode(error.object)
        raise InputError(f"the path {name!r} is not UTF-8, which tables of images are: rename it") from None


def _dataset(paths: list[str], labels: list[int] | None, class_names: list[str]) -> Dataset:
    features = Features({"image": Image(decode=False)})
    images = pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), _text(paths)], fields=list(Image.pa_type))
    columns = [images]
    if labels is not None:
        features["label"] = ClassLabel(names=class_names)
        columns.append(pa.array(labels, pa.int64()))
    return Dataset(pa.Table.from_arrays(columns, schema=features.arrow_schema))


def _labelled(root: Path, class_folders: list[Path]) -> Dataset:
    """One class a folder, in the folders' sorted order; the images may lie in deeper folders.

    A name is the same however its accents are written: file systems differ in that, and so do two copies of a folder.
    """
    if not class_folders:
        raise InputError(
            f"no class folders in {str(root)!r}: put the images into {root.name}/CLASS/, or name the folder "
            "'unlabelled' when they have no classes"
        )
    paths, labels, empty = [], [], []
    named = [unicodedata.normalize("NFC", folder.name) for folder in class_folders]
    names = sorted(set(named))
    number = {name: label for label, name in enumerate(names)}
    for name, folder in zip(named, class_folders, strict=True):
        found = list(_images(folder))
        if not found:
            empty.append(folder.name)
        paths += found
        labels += [number[name]] * len(found)
    if empty:
        raise InputError(
            f"no image in class folder {', '.join(map(repr, empty))} of {str(root)!r}: fill or remove it "
            f"(known suffixes: {' '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return _dataset(paths, labels, names)


def every_image(root: Path) -> Dataset:
    """All images below a folder, in any layout, in sorted order.

    Raises:
        InputError: there is none.
    """
    paths = list(_images(root))
    if not paths:
        raise InputError(
            f"no image in {str(root)!r}: fill or remove it (known suffixes: {' '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return _dataset(paths, None, [])


def list_image_folder(data_dir: str | Path) -> tuple[dict[str, Dataset], list[str]]:
    """List the images of a folder that is laid out by split and class.

    Either ``train/CLASS/...``, ``validation/CLASS/...`` (or ``val``, ``valid``), ``test/CLASS/...`` and
    ``unlabelled/...`` (or ``unlabeled``; flat or in any subfolders), each of them optional; or ``CLASS/...`` directly,
    which is all ``train`` (an ``unlabelled`` folder may lie beside the classes). Hidden files and files without an
    image suffix do not count.

    Args:
        data_dir: the folder.

    Returns:
        Split -> :class:`datasets.Dataset` of paths with a ``ClassLabel`` where the split has classes, and log lines
        on what was passed over.

    Raises:
        InputError: no such folder, no class folders, or an empty class folder.

    Example::

        splits, notes = list_image_folder("photos")
        splits["train"].features["label"].names  # ['cat', 'dog']
    """
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise InputError(f"no such folder {str(root)!r} (--data_dir): give a folder that holds train/CLASS/*.jpg")
    by_split: dict[str, Path] = {}
    others: list[Path] = []
    for folder in _folders(root):
        split = canonical_split(folder.name)
        if split is None:
            others.append(folder)
        elif split in by_split:
            raise InputError(
                f"{str(root)!r} holds both {by_split[split].name!r} and {folder.name!r}: keep one folder for {split}"
            )
        else:
            by_split[split] = folder

    splits: dict[str, Dataset] = {}
    notes: list[str] = []
    if any(split in by_split for split in LABELLED_SPLITS):
        if others:
            notes.append(f"not a split, passed over: {', '.join(folder.name for folder in others)} in {root}")
    elif others or "unlabelled" not in by_split:
        splits["train"] = _labelled(root, others)
        notes.append(f"no split folders in {root}: its class folders are the train split")
    for split in LABELLED_SPLITS:
        if split in by_split:
            splits[split] = _labelled(by_split[split], _folders(by_split[split]))
    if "unlabelled" in by_split:
        splits["unlabelled"] = every_image(by_split["unlabelled"])
    return splits, notes
