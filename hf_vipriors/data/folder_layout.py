"""Which folders of an image folder are splits and which are classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from .columns import class_name, some
from .image_files import hidden_with_images, holds_images, image_files, subfolders
from .split_names import LABELLED_SPLITS, canonical_split


@dataclass(frozen=True)
class ClassFolders:
    """Class name and folder of each, in the folders' order, and the folder ``root`` they all lie in.

    A class has two folders where their accents are written differently.
    """

    root: Path
    folders: list[tuple[str, Path]]


@dataclass(frozen=True)
class Layout:
    """Where the images of an image folder lie.

    Attributes:
        classes: split -> its classes.
        unlabelled: folders of images without classes.
        notes: what was decided.
    """

    classes: dict[str, ClassFolders]
    unlabelled: list[Path]
    notes: list[str] = field(default_factory=list)

    @property
    def class_names(self) -> set[str]:
        """Of all splits."""
        return {name for each in self.classes.values() for name, _ in each.folders}


def folder_layout(root: Path) -> Layout:
    """Tell splits from classes by their names and by what they hold.

    ==========================================  ===============================================================
    in the folder                               read as
    ==========================================  ===============================================================
    train/CLASS/, val/CLASS/, test/CLASS/       splits (their other names: see ``canonical_split``)
    the same, and other folders                 splits; the others are passed over, and named
    train/CLASS/ and two folders with images    refused: ``train`` may be a class of these
    train/ that holds images only, and others   refused: ``train`` may be a class
    CLASS/                                      classes, all of them train
    CLASS/train/, CLASS/test/                   splits inside every class
    the same, but not in every class            refused: are the images of the others train, or all of them?
    the same, and images beside train/, test/   refused, likewise
    NAME/train/CLASS/, NAME/test/CLASS/         refused: each NAME is a data set, or they are classes
    train/CLASS/test/                           refused: train or test?
    unlabelled/, in any layout                  images without classes, beside any of these
    ==========================================  ===============================================================

    Raises:
        InputError: refused, or two folders for one split.
    """
    by_split: dict[str, Path] = {}
    others: list[Path] = []
    for folder in subfolders(root):
        split = canonical_split(folder.name)
        if split is None:
            others.append(folder)
        elif split in by_split:
            raise InputError(
                f"{str(root)!r} holds both {by_split[split].name!r} and {folder.name!r}: keep one folder for {split}"
            )
        else:
            by_split[split] = folder
    pool = [by_split.pop("unlabelled")] if "unlabelled" in by_split else []
    hidden = [note for folder in (root, *by_split.values()) for note in hidden_with_images(folder)]
    if by_split:
        for split, folder in by_split.items():
            _check_is_split(folder, others)
            _check_one_split(folder, split)
        _check_not_a_class(by_split, others)
        classes = {split: _class_folders(folder, subfolders(folder)) for split, folder in by_split.items()}
        notes = (
            [f"not a split, passed over: {', '.join(folder.name for folder in others)} in {root}"] if others else []
        )
        return Layout(classes, pool, notes + hidden)
    if any(map(_splits_in, others)):
        return _splits_inside(root, others, pool)
    if pool and not others:
        return Layout({}, pool)
    train = {"train": _class_folders(root, others)}
    notes = [f"no split folders in {root}: its class folders are the train split"]
    return Layout(train, pool, notes + hidden)


def _class_folders(root: Path, folders: list[Path]) -> ClassFolders:
    return ClassFolders(root, [(class_name(folder.name), folder) for folder in folders])


def _splits_in(folder: Path) -> list[Path]:
    return [each for each in subfolders(folder) if canonical_split(each.name) in LABELLED_SPLITS]


def _check_not_a_class(by_split: dict[str, Path], others: list[Path]) -> None:
    if len(by_split) == 1 and len(rich := [folder for folder in others if holds_images(folder)]) > 1:
        (folder,) = by_split.values()
        raise InputError(
            f"{str(folder)!r} is called like a split, and lies beside {some((each.name for each in rich), 5)}, which "
            "hold images: if all are classes rename it; if it is a split move the others away"
        )


def _check_is_split(folder: Path, others: list[Path]) -> None:
    if others and not subfolders(folder) and image_files(folder):
        raise InputError(
            f"{str(folder)!r} is called like a split, but holds images as a class does, beside "
            f"{some((each.name for each in others), 5)}: if it is a class rename it, if it "
            f"is a split sort its images into {folder.name}/CLASS/"
        )


def _check_one_split(root: Path, split: str) -> None:
    for folder in subfolders(root):
        for odd in _splits_in(folder):
            if (meant := canonical_split(odd.name)) != split:
                raise InputError(
                    f"{str(odd)!r} is called like a split, but lies in {split}: move its images to "
                    f"{meant}/{folder.name}/, or rename it"
                )


def _splits_inside(root: Path, class_folders: list[Path], pool: list[Path]) -> Layout:
    found: dict[str, list[tuple[str, Path]]] = {}
    example = next(each for folder in class_folders for each in _splits_in(folder))
    for folder in class_folders:
        inside = subfolders(folder)
        odd = [each.name for each in inside if canonical_split(each.name) is None]
        if odd or image_files(folder) or not inside:
            what = f"holds {some(odd, 5)}" if odd else "holds images" if image_files(folder) else "holds none"
            raise InputError(
                f"{str(example)!r} is called like a split, but {str(folder)!r} {what}: let every class folder hold "
                f"split folders alone ({folder.name}/{example.name}/), or rename {example.name!r}"
            )
        for each in inside:
            if deeper := subfolders(each):
                raise InputError(
                    f"{str(each)!r} is called like a split and holds the folder {deeper[0].name!r}: for the data set "
                    f"in it give --data_dir {folder}; for a class {folder.name!r} let its split folders hold images "
                    "alone"
                )
            found.setdefault(str(canonical_split(each.name)), []).append((class_name(folder.name), each))
    pool = [*pool, *(folder for _, folder in found.pop("unlabelled", []))]
    classes = {split: ClassFolders(root, found[split]) for split in LABELLED_SPLITS if split in found}
    return Layout(classes, pool, [f"splits inside the class folders of {root}: {', '.join(classes)}"])
