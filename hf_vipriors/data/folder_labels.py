"""Labels of class folders below those of a table: what ``train/CLASS/`` says of images that no row names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from ..errors import InputError
from .columns import some
from .folder_layout import Layout, folder_layout
from .image_files import FolderWalk
from .label_table import Given, LabelledFiles, all_names, read_tables, split_of_folders
from .split_names import SPLITS
from .table_files import Table


def labels_of_files(
    tables: list[Table], root: Path, paths: list[str], label_column: str | None = None
) -> LabelledFiles:
    """What tables say, and class folders of the images that no row labels; where one does, the row counts.

    Folders need not be classes where there is a table: they may be days, cameras or parts of a download. They are
    taken for classes where the rows of images in them say so: half or more of the classes that these rows give are
    names of such folders. Where no row names an image in them, folders of splits (``train/CLASS/``) are classes,
    and folders beside each other (``CLASS/``) are where all rows are of images in ``unlabelled/``, or one of the
    table's classes is called like a folder.

    Args:
        tables: as of :func:`~hf_vipriors.data.label_table.read_tables`.
        root: the folder of the images.
        paths: absolute paths of the images in it.
        label_column: found by its name when not given.

    Raises:
        InputError: as ``read_tables``; a class folder in train without an image, of a class that no row gives either;
            one number written in two ways, as ``001`` and ``1``.
    """
    try:
        layout = folder_layout(root)
    except InputError as error:
        found, why = read_tables(tables, root, paths, label_column), error.on_command_line
        return found._replace(notes=[*found.notes, f"no folder is read as a class beside the table: {why}"])
    folders = layout.class_names
    found = read_tables(tables, root, paths, label_column, folders)
    of_folders, walk = _labels_of_folders(layout, root)
    if not of_folders:
        return found
    if not _are_classes(layout, root, of_folders, found):
        found = read_tables(tables, root, paths, label_column)  # whose classes have no names elsewhere then
        if of_folders.keys() <= found.classes.keys():
            return found
        ours, theirs = some(sorted(folders), 5), some(sorted(set(found.classes.values())), 5)
        note = f"folders {ours} are not read as classes: those of the table are {theirs}"
        return found._replace(notes=[*found.notes, note])
    rows = found.classes
    if of_folders.keys() <= rows.keys():
        return found
    _check_numbers(folders, found.names)
    train = {name for name, _ in layout.classes["train"].folders} if "train" in layout.classes else set()
    if empty := sorted(train - {name for _, name in of_folders.values()} - set(rows.values())):
        raise walk.no_image(f"class folder {some(empty)} of {str(layout.classes['train'].root)!r}")
    return _merged(found, rows, of_folders)


def in_class_folders(root: Path, found: LabelledFiles) -> set[str]:
    """Paths of the images that class folders of splits label, beside the rows of a table.

    None where no folder is called like a split, or where the rows say that folders are no classes.
    """
    layout = _layout_of_splits(root)
    if layout is None:
        return set()
    of_folders, _ = _labels_of_folders(layout, root)
    return set(of_folders) if _are_classes(layout, root, of_folders, found) else set()


def class_folders(root: Path) -> set[str]:
    """The names of the class folders of splits."""
    layout = _layout_of_splits(root)
    return set() if layout is None else layout.class_names


def _layout_of_splits(root: Path) -> Layout | None:
    """None where no folder is called like a split, or what is a class and what a split cannot be told."""
    try:
        layout = folder_layout(root)
    except InputError:
        return None
    return layout if _tells_splits(layout, root) else None


def _tells_splits(layout: Layout, root: Path) -> bool:
    """Whether its classes lie in folders that are called like splits, or the other way round."""
    return any(classes.root != root for classes in layout.classes.values()) or len(layout.classes) > 1


def _labels_of_folders(layout: Layout, root: Path) -> tuple[dict[str, tuple[str, str]], FolderWalk]:
    """Path -> (split, class) of all images in class folders."""
    walk = FolderWalk(root)
    return {
        path: (split, name)
        for split, classes in layout.classes.items()
        for name, folder in classes.folders
        for path in walk.images(folder)
    }, walk


def _are_classes(
    layout: Layout,
    root: Path,
    of_folders: Mapping[str, tuple[str, str]],
    found: LabelledFiles,
) -> bool:
    folders, rows = {name for _, name in of_folders.values()}, found.classes
    inside = {name for path, name in rows.items() if path in of_folders}
    if inside:
        return 2 * len(inside & folders) >= len(inside)
    pool = all(split_of_folders(path, root) == "unlabelled" for path in found.rows)
    return _tells_splits(layout, root) or pool or bool(folders & set(rows.values()))


def _merged(found: LabelledFiles, rows: Mapping[str, str], of_folders: Mapping[str, tuple[str, str]]) -> LabelledFiles:
    used = sorted({name for path, (_, name) in of_folders.items() if path not in rows})
    names = all_names([used, found.names])
    number = {name: code for code, name in enumerate(names)} | {None: -1}
    given = {path: row._replace(code=number[rows.get(path)]) for path, row in found.rows.items()}
    added: Counter[str] = Counter()
    for path, (split, name) in of_folders.items():
        if path not in rows:  # a row without a label may still give a split
            row = given.get(path, Given(split, -1, "its folder"))
            given[path] = row._replace(code=number[name])
            added[row.split] += 1
    counts = ", ".join(f"{split} {added[split]}" for split in SPLITS if split in added)
    notes = [*found.notes, f"labels of {added.total()} images that no row labels from their class folders: {counts}"]
    if others := sum(path in rows and rows[path] != name for path, (_, name) in of_folders.items()):
        notes.append(f"rows that give an image another class than its folder: {others}; the rows count")
    return LabelledFiles(given, names, notes)


def _check_numbers(of_folders: Collection[str], of_rows: Collection[str]) -> None:
    """Refuse ``001`` and ``1``: a spreadsheet has taken the zeros away, and one class would become two."""
    numbers = {int(name): name for name in of_folders if name.isdecimal()}
    for name in set(of_rows).difference(of_folders):
        if name.isdecimal() and (folder := numbers.get(int(name))) is not None:
            raise InputError(
                f"class {name!r} of the table and class folder {folder!r} are one number: write it alike in both, if "
                "it is one class"
            )
