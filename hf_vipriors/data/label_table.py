"""Labels from a table of file names: ``--labels labels.csv``, or the ``metadata.csv`` in an image folder.

A .csv, .tsv, .txt, .jsonl or .parquet file with a column of files (``file_name``, ``path``, ``image``, ...), a label
column and perhaps a column ``split`` (or ``subset``, ``set``, ``partition``, where all values are names of splits).
Without that column the folders in a path tell the split, else it is train. Of images that no row labels
:mod:`~hf_vipriors.data.folder_labels` reads the class folders, where there are any.

``load_dataset("imagefolder")`` reads ``metadata.*`` too, but not as is needed here (tried: datasets 5.2): a table
beside split folders is ignored, so that the classes become those of folders; a row without a file and a file with two
labels pass silently; links to folders are not followed; and the images come in the order of the rows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features

from ..errors import InputError
from .columns import HIDDEN, Labels, NotLabels, find_label_column, read_labels, some
from .image_files import composed, is_hidden
from .split_names import SPLITS, canonical_split
from .table_files import PATH_NAMES, SPLIT_NAMES, Table, plain, read_table

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_INTEGER = re.compile(r"-?\d+(\.0)?")
_DEPTHS = ("", "*/", "*/*/")  # beside the images: at the top, in split folders, in parts of these


class Given(NamedTuple):
    """What a row says of its image."""

    split: str
    code: int
    place: str


class LabelledFiles(NamedTuple):
    """What tables say: path -> its row, the class names that labels count in, and log lines."""

    rows: dict[str, Given]
    names: list[str]
    notes: list[str]

    @property
    def classes(self) -> dict[str, str]:
        """Path -> the name of its class, of the rows that have a label."""
        return {path: self.names[row.code] for path, row in self.rows.items() if row.code >= 0}


def metadata_tables(root: Path, label_column: str | None) -> tuple[list[Table], list[Table]]:
    """The ``metadata.*`` in an image folder that name files, with labels and without (captions, boxes).

    Those of unlabelled images do not count, nor those in class folders that name no files.

    Raises:
        InputError: one in the folder itself or in a split that names no files: what it says would be lost in silence.
    """
    labelled: list[Table] = []
    other: list[Table] = []
    for path in sorted(path for name in METADATA for depth in _DEPTHS for path in root.glob(depth + name)):
        folders = path.relative_to(root).parts[:-1]
        if not any(is_hidden(part) or canonical_split(part) == "unlabelled" for part in folders):
            table = read_table(path, path.parent)
            if _path_column(table.columns) is not None:
                (labelled if label_column or _tells_classes(table.columns) else other).append(table)
            elif all(map(canonical_split, folders)):
                raise _lacks("files", table)
    return labelled, other


def _named(table: pa.Table, names: Iterable[str]) -> str | None:
    """The first of ``names`` that is a column, in any case."""
    columns = {plain(column): column for column in reversed(table.column_names)}
    return next((columns[name] for name in names if name in columns), None)


def _path_column(columns: pa.Table) -> str | None:
    texts = [
        field.name
        for field in columns.schema
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type) or pa.types.is_integer(field.type)
    ]
    return _named(columns.select(texts), PATH_NAMES)


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    return [None if value is None else str(value) for value in column.to_pylist()]


def _label_column(columns: pa.Table, wanted: str | None) -> str | None:
    features = Features.from_arrow_schema(columns.schema)
    found = find_label_column(features, wanted)
    if found is None:  # "Label", "Class": as spreadsheets have it
        lower = find_label_column(Features({plain(name): kind for name, kind in features.items()}))
        found = lower and _named(columns, [lower])
    return found


def _tells_classes(columns: pa.Table) -> bool:
    try:
        return _label_column(columns, None) is not None
    except NotLabels:  # boxes, several labels an image
        return False


class _Files:
    """Finds the files that rows mean."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = {composed(path): path for path in paths}
        self._called: dict[str, list[str]] = {}
        for path in self._paths:
            name = os.path.basename(path).casefold()
            for each in {name, os.path.splitext(name)[0]}:
                self._called.setdefault(each, []).append(path)

    def find(self, value: str, base: Path) -> list[str]:
        """The file that is meant.

        It is the one at that place, else the only one whose path ends so, perhaps without its suffix; else the same
        in any case: tables and files differ in it after a copy between systems.
        """
        for written in (value, value.replace("\\", "/")):
            at = os.path.normpath(os.path.join(os.path.abspath(base), written))
            if (known := self._paths.get(composed(at))) is not None:
                return [known]
            if os.path.isfile(at):  # in another folder, or with a suffix that would not count
                return [at]
        end = "/" + os.path.normpath(composed(written)).lstrip("/")
        close = self._called.get(os.path.basename(end).casefold(), [])
        found = [path for path in close if _ends(path, end)]
        found = found or [path for path in close if _ends(path.casefold(), end.casefold())]
        return [self._paths[path] for path in found]


def _ends(path: str, end: str) -> bool:
    return path.endswith(end) or os.path.splitext(path)[0].endswith(end)


def read_tables(
    tables: list[Table],
    root: Path,
    paths: list[str],
    label_column: str | None = None,
    known: Collection[str] = (),
) -> LabelledFiles:
    """Find the image of every row, its class and its split.

    Args:
        tables: their classes are numbered together.
        root: the folder of the images.
        paths: absolute paths of the images in it.
        label_column: found by its name when not given.
        known: classes that have their names elsewhere: ``-1`` and ``nan`` among them are no missing labels, and the
            ``1`` of a column of numbers is the ``1.0`` among them.

    Raises:
        InputError: a table that cannot be read or lacks a column, a row without its file, an unknown split, or a file
            with two labels; the first such row is named.
    """
    files = _Files(paths)
    read = [(table, *_rows(table, label_column, known)) for table in tables]
    names = all_names([labels.names for _, _, labels, _ in read])
    number = {name: code for code, name in enumerate(names)} | {None: -1}
    rows: dict[str, Given] = {}
    notes = []
    for table, values, labels, splits in read:
        by_folder = splits is None
        for at, (value, code) in enumerate(zip(values, labels.codes.tolist(), strict=True)):
            place = f"{table} data row {at + 1}"
            found = files.find(value, table.base) or files.find(value.strip(), table.base) if value else []
            path = _one_file(found, value, place, root)
            split = split_of_path(path, root) if by_folder else _split_of_value(splits[at], place)
            given = Given(split, number[labels.names[code] if code >= 0 else None], place)
            before = rows.setdefault(path, given)
            if before[:2] != given[:2]:
                what = "labels" if before.code != given.code else "splits"
                raise InputError(f"{place} gives {value!r} another of the {what} than {before.place}: keep one row")
        told = "folders" if by_folder else "its column"
        labelled = int((labels.codes >= 0).sum())
        part = f"{labelled} rows" if labelled == len(values) else f"{labelled} of {len(values)} rows"
        notes.append(f"labels of {part} from {table}, splits by {told}")
        if odd := [name for name in labels.names if name in known and name.lower() in HIDDEN and not labels.declared]:
            notes.append(f"{some(odd)} in {table} is a class here, as it is known by this name, and no missing label")
    return LabelledFiles(rows, names, notes)


def _rows(
    table: Table, wanted: str | None, known: Collection[str]
) -> tuple[list[str | None], Labels, list[str | None] | None]:
    """(files, labels, splits) of each row; None: no column of splits."""
    columns = table.columns
    path = _path_column(columns)
    try:
        label = _label_column(columns, wanted)
    except InputError as error:
        raise InputError(f"table {table}: {error.on_command_line}") from None
    for what, column in (("files", path), ("labels", label)):
        if column is None:
            raise _lacks(what, table)
    if not len(columns):
        raise InputError(f"the table {table} has no rows: fill or remove it")
    splits = _splits(columns)
    labels = read_labels(Dataset(columns.select([label])), str(label), known)
    return _texts(columns[path]), _as_known(labels, known), splits


def _as_known(labels: Labels, known: Collection[str]) -> Labels:
    """With integers as they are known: programs write those of a column with missing ones as ``1.0``."""
    names = []
    for name in labels.names:
        likely = (name, f"{name}.0", name.removesuffix(".0")) if _INTEGER.fullmatch(name) else (name,)
        names.append(next((each for each in likely if each in known), name))
    distinct = list(dict.fromkeys(names))
    places = np.array([*map(distinct.index, names), -1])  # the last is that of -1
    return replace(labels, names=distinct, codes=places[labels.codes])


def _lacks(what: str, table: Table) -> InputError:
    away = "or, if folders are the classes, move the table away"
    if what == "files" and (named := _named(table.columns, PATH_NAMES)) is not None:
        kind = table.columns.schema.field(named).type
        return InputError(
            f"column {named!r} of the table {table} has values of type {kind}: write the name of one file in each row "
            f"{away}"
        )
    mend = {"files": "call it file_name", "labels": "name it by --label_column"}[what]
    return InputError(
        f"the table {table} has no column of {what} among {some(table.columns.column_names)}: {mend} {away}"
    )


def _splits(columns: pa.Table) -> list[str | None] | None:
    if (split := _named(columns, ["split"])) is not None:
        return _texts(columns[split])
    for name in filter(None, (_named(columns, [each]) for each in SPLIT_NAMES)):
        values = _texts(columns[name])
        if all(canonical_split(value.strip()) for value in values if value):
            return values
    return None


def all_names(parts: list[list[str]]) -> list[str]:
    """Classes of several sources: in their order where it is one, else numbers by value and text by the alphabet."""
    if all(names == parts[0] for names in parts):
        return parts[0]
    names = {name for part in parts for name in part}
    numbers = all(name.removeprefix("-").isdecimal() for name in names)
    return sorted(sorted(names), key=int) if numbers else sorted(names)  # 001 and 1 in the same order each time


def _one_file(found: list[str], value: str | None, place: str, root: Path) -> str:
    if not found:
        raise InputError(f"{place}: no image {value!r} below {str(root)!r}: mend the name, or delete the row")
    if len(found) > 1:
        named = some((os.path.relpath(path, root) for path in found), 3)
        raise InputError(f"{place}: {value!r} may be {named}: write the path below {str(root)!r}")
    return found[0]


def _split_of_value(value: str | None, place: str) -> str:
    split = canonical_split((value or "train").strip() or "train")
    if split is None:
        raise InputError(f"{place}: unknown split {value!r}: write one of {some(SPLITS)}")
    return split


def split_of_folders(path: str, root: Path) -> str | None:
    """The split that the folders of a path below ``root`` are called like; the topmost counts. Elsewhere: none."""
    folders = Path(os.path.relpath(path, os.path.abspath(root))).parts[:-1]
    return next(filter(None, map(canonical_split, folders)), None) if ".." not in folders else None


def split_of_path(path: str, root: Path) -> str:
    """The split of an image that a row labels without naming one: train, or what the folders of its path say."""
    # A row gives an image of the unlabelled folder its label: it is one to train on.
    split = split_of_folders(path, root)
    return "train" if split in (None, "unlabelled") else str(split)
