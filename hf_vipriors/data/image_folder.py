"""List an image folder ourselves: every rule is in the open, and no image with a known suffix is opened yet."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, Image

from ..errors import InputError
from .columns import some
from .folder_labels import labels_of_files
from .folder_layout import ClassFolders, folder_layout
from .image_files import LEFT_OUT, FolderWalk, holds_images
from .label_table import LabelledFiles, metadata_tables, read_tables, split_of_folders
from .split_names import LABELLED_SPLITS, canonical_split
from .table_files import Table, read_table

logger = logging.getLogger(__name__)
# As a path has it, which keeps one of two slashes.
_ADDRESS = re.compile(r"(?:^|/)(https?|ftp|s3|gs|hf|file):/", re.IGNORECASE)


class NoClasses(InputError):
    """No folder tells a class, and no table does."""


_EMPTY = {
    "validation": "remove it (validation is then carved from train),",
    "test": "remove it (the validation images are then scored as test),",
}


def _text(paths: list[str]) -> pa.Array:
    try:
        return pa.array(paths, pa.string())
    except UnicodeEncodeError as error:  # bytes that are no UTF-8, as Python keeps them in a path
        name = os.fsencode(error.object)
        raise InputError(f"the path {name!r} is not UTF-8, which tables of images are: rename it") from None


def _dataset(
    paths: list[str], labels: Sequence[int] | None = None, names: Sequence[str] = (), *, column: str | None = None
) -> Dataset:
    features = Features({"image": Image(decode=False)})
    images = pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), _text(paths)], fields=list(Image.pa_type))
    columns = [images]
    if labels is not None:
        features[column or "label"] = ClassLabel(names=list(names))
        columns.append(pa.array(labels, pa.int64()))
    return Dataset(pa.Table.from_arrays(columns, schema=features.arrow_schema))


def _unlabelled(folders: list[Path], walk: FolderWalk) -> Dataset:
    paths = [path for folder in folders for path in walk.images(folder)]
    if not paths:
        raise walk.no_image(", ".join(repr(str(folder)) for folder in folders))
    return _dataset(paths)


def _check_folder(root: Path, mend: str) -> None:
    if root.is_file():
        raise InputError(f"{str(root)!r} (--data_dir) is a file: give the folder that it lies in")
    if root.is_dir():
        return
    if (address := _ADDRESS.search(str(root))) is not None:
        raise InputError(
            f"--data_dir is an address ({address[1]}:), and a folder on this machine is needed: download the images "
            "first, and give the path of their folder (of a data set on the Hub: --dataset_name)"
        )
    raise InputError(f"no such folder {str(root)!r} (--data_dir): {mend}")


def every_image(root: Path) -> Dataset:
    """All images below a folder, in any layout, in sorted order; what is left out is logged.

    Raises:
        InputError: no such folder, one in it that cannot be listed, or no image.
    """
    _check_folder(root, "give one that holds images")
    walk = FolderWalk(root)
    images = _unlabelled([root], walk)
    for note in walk.notes():
        logger.info(note)
    return images


def labelled_by(labels: str | Path, images: Dataset, root: Path, known: Collection[str]) -> LabelledFiles:
    """The images that a table labels, of those that :func:`every_image` found and of others, named from ``root``.

    ``known`` are classes that have their names elsewhere, as of ``read_tables``.

    Raises:
        InputError: a table that cannot be read, or does not fit the files.
    """
    paths = [image["path"] for image in images["image"]]
    found = read_tables([read_table(_table_path(labels, root), root)], root, paths, known=known)
    return found._replace(rows={path: given for path, given in found.rows.items() if given.code >= 0})


def _labelled(classes: ClassFolders, known: Sequence[str], walk: FolderWalk) -> Dataset:
    """One class a folder, numbered in alphabetic order; the images may lie in deeper folders.

    Args:
        known: the classes of train, which another split need not have all; empty for train itself.
    """
    root = classes.root
    if not classes.folders:
        mend = _EMPTY.get(canonical_split(root.name))
        if mend is not None and not walk.images(root):
            raise InputError(f"{str(root)!r} is empty: {mend} or fill {root.name}/CLASS/")
        raise InputError(
            f"no class folders in {str(root)!r}: put the images into {root.name}/CLASS/, or name the folder "
            "'unlabelled' when they have no classes"
        )
    images = [(name, path) for name, folder in classes.folders for path in walk.images(folder)]
    here = {name for name, _ in images}
    empty = [folder.name for name, folder in classes.folders if name not in here and name not in known]
    if empty or not images:
        raise walk.no_image(f"class folder {some(empty) if empty else 'of any name'} of {str(root)!r}")
    names = known if here <= set(known) else sorted(here)
    number = {name: label for label, name in enumerate(names)}
    return _dataset([path for _, path in images], [number[name] for name, _ in images], names)


def _by_table(tables: list[Table], walk: FolderWalk, label_column: str | None) -> tuple[dict[str, Dataset], list[str]]:
    """Labels of the tables on top of those of class folders; all other images are the pool.

    Not so those in folders of validation and test that have no label: they are left out.
    """
    paths = walk.images()
    found = labels_of_files(tables, walk.root, paths, label_column)
    walk.has_read(table.path for table in tables)
    splits = {}
    ordered = sorted(found.rows.keys() - set(paths))
    ordered = [path for path in paths if path in found.rows] + ordered
    for split in LABELLED_SPLITS:
        rows = [(path, found.rows[path].code) for path in ordered if found.rows[path].split == split]
        if rows:
            images, labels = zip(*rows, strict=True)
            splits[split] = _dataset(list(images), labels, found.names, column=label_column)
    free = [path for path in paths if path not in found.rows]
    pool = [path for path in free if split_of_folders(path, walk.root) not in ("validation", "test")]
    notes = found.notes
    if pool:
        notes.append(f"{len(pool)} images that nothing labels are unlabelled")
    if len(free) > len(pool):
        notes.append(f"{LEFT_OUT}{len(free) - len(pool)} images in folders of validation or test that nothing labels")
    pool += [path for path in ordered if found.rows[path].split == "unlabelled"]
    if pool:
        splits["unlabelled"] = _dataset(sorted(pool))
    return splits, [*notes, *walk.notes()]


def list_image_folder(
    data_dir: str | Path, labels: str | Path | None = None, label_column: str | None = None
) -> tuple[dict[str, Dataset], list[str]]:
    """List the images of a folder whose classes are told by folders or by a table.

    The table is ``labels``, or else every ``metadata.csv`` (``.jsonl``, ``.parquet``) in the folder, with the columns
    that :mod:`hf_vipriors.data.label_table` knows. Its rows count before class folders, and these tell the classes of
    the other images (see :func:`~hf_vipriors.data.folder_labels.labels_of_files`). Without a table the folder is
    laid out by split and class, as :func:`~hf_vipriors.data.folder_layout.folder_layout` reads it; a split other than
    train may lack a class, or hold an empty folder for it. Hidden files do not count, nor files that are no images by
    their suffix (without a suffix: by their first bytes), nor images beside class folders: the notes name each kind.

    Args:
        data_dir: the folder.
        labels: a .csv, .tsv, .jsonl or .parquet file.
        label_column: of the table; found by its name when not given.

    Returns:
        Split -> :class:`datasets.Dataset` of paths with a ``ClassLabel`` where the split has classes, and log lines
        on what was passed over.

    Raises:
        NoClasses: no class folders, and no table with labels.
        InputError: no such folder, an empty class folder in train, a layout that could be meant in two ways, or a
            table that does not fit the images.

    Example::

        splits, notes = list_image_folder("photos")
        splits["train"].features["label"].names  # ['cat', 'dog']
    """
    root = Path(data_dir).expanduser()
    _check_folder(root, "give a folder that holds train/CLASS/*.jpg")
    walk = FolderWalk(root)
    if labels is not None:
        return _by_table([read_table(_table_path(labels, root), root)], walk, label_column)
    tables, others = metadata_tables(root, label_column)
    if tables:
        return _by_table(tables, walk, label_column)
    try:
        splits, notes = _by_folders(root, walk)
    except InputError as error:
        if others:  # they were to tell the classes: it is said what they lack
            try:
                _by_table(others, walk, label_column)
            except InputError as lacks:
                raise type(error)(lacks.on_command_line) from None
        raise
    walk.has_read(table.path for table in others)
    notes += [f"no label column in {table}: the folders are the classes" for table in others]
    return splits, [*notes, *walk.notes()]


def _by_folders(root: Path, walk: FolderWalk) -> tuple[dict[str, Dataset], list[str]]:
    layout = folder_layout(root)
    splits: dict[str, Dataset] = {}
    known: list[str] = []
    for split in LABELLED_SPLITS:
        if split in layout.classes:
            try:
                splits[split] = _labelled(layout.classes[split], known, walk)
            except InputError as error:
                if any(holds_images(folder) for each in layout.classes.values() for _, folder in each.folders):
                    raise
                raise NoClasses(error.on_command_line) from None
            known = known or splits[split].features["label"].names
    if layout.unlabelled:
        splits["unlabelled"] = _unlabelled(layout.unlabelled, walk)
    for above in dict.fromkeys([root, *(classes.root for classes in layout.classes.values())]):
        walk.beside(above)
    return splits, list(layout.notes)


def _table_path(labels: str | Path, root: Path) -> Path:
    """As given, or where there is none such, in the folder of the images."""
    path = Path(labels).expanduser()
    return root / path if not path.exists() and (root / path).exists() else path
