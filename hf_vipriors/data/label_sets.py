"""Give all labelled splits one numbering of the classes, and set rows with hidden labels apart."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from ..errors import InputError
from .columns import Labels, alike_but_for_case, case_hint, some

DOUBT = "look at the classes: "  # how a note begins that --advise repeats
# Beside labels that are hidden, which columns.py tells by other words.
_MAY_BE_NONE = ("none", "na", "n/a", "null", "unknown", "?")


@dataclass(frozen=True)
class LabelledImages:
    """Images of one split beside their labels as read."""

    images: Dataset
    labels: Labels


def _compare(split: str, labels: Labels, reference_split: str, reference: list[str]) -> None:
    """Refuse a split with classes that the reference does not have, or that declares fewer, naming the odd ones.

    Names that are only those that occur lack the classes without an image in this split.
    """
    more, fewer = sorted(set(labels.names) - set(reference)), sorted(set(reference) - set(labels.names))
    if more or (fewer and labels.declared):
        odd = [
            f"only {where} has {some(which)}" for where, which in ((split, more), (reference_split, fewer)) if which
        ]
        raise InputError(
            f"{reference_split} and {split} have different classes: {'; '.join(odd)}{case_hint(more, reference)}: "
            "give both the same"
        )


def _doubts(names: list[str], hidden: bool) -> list[str]:
    """Classes that may be none of their own."""
    notes = []
    if alike := alike_but_for_case(names):
        notes.append(f"{DOUBT}classes differ only in case: {some(alike)}; are they one?")
    if hidden and (none := [name for name in names if name.casefold() in _MAY_BE_NONE]):
        notes.append(f"{DOUBT}{some(none)} is read as a class; where it means that there is no label, leave it empty")
    return notes


def _set_hidden_apart(
    parts: dict[str, LabelledImages], left_out: Collection[str]
) -> tuple[dict[str, LabelledImages], list[Dataset], list[str]]:
    """Collect the rows whose label is -1, and the splits in which some label is known."""
    labelled: dict[str, LabelledImages] = {}
    hidden: list[Dataset] = []
    notes: list[str] = []
    for split, part in parts.items():
        known = part.labels.codes >= 0
        if known.any():
            labelled[split] = part
        if not known.all():
            if split not in left_out:
                hidden.append(part.images.select(np.flatnonzero(~known)))
            what = "are left out" if split in left_out else "join the unlabelled images"
            notes.append(
                f"{split} has {(~known).sum()} hidden labels (-1 or missing) in {len(known)} rows: those {what}"
                f"{'' if known.any() else f', no {split} split is left'}"
            )
    return labelled, hidden, notes


def _with_label(images: Dataset, codes: np.ndarray) -> Dataset:
    # The column goes in before rows are dropped: adding one to a selection would rewrite all images.
    labelled = images.add_column("label", codes)
    return labelled if (codes >= 0).all() else labelled.select(np.flatnonzero(codes >= 0))


def unify_classes(
    parts: dict[str, LabelledImages], left_out: Collection[str] = ()
) -> tuple[dict[str, Dataset], list[Dataset], list[str], list[str]]:
    """Number the classes alike in every labelled split.

    The order is that of the first split (train where it exists). Declared classes that have no image anywhere are
    dropped, so that the labels of K classes fill 0..K-1.

    Args:
        parts: split -> images and labels.
        left_out: splits whose images with hidden labels are not returned.

    Returns:
        ``(splits with a label column, images with hidden labels, class names, notes)``.

    Raises:
        InputError: the splits have different classes, or a class has images in another split but none in train.
    """
    parts, hidden, notes = _set_hidden_apart(parts, left_out)
    if not parts:
        return {}, hidden, [], notes
    first = next(iter(parts))
    names = parts[first].labels.names
    number = {name: code for code, name in enumerate(names)}
    codes: dict[str, np.ndarray] = {}
    for split, part in parts.items():
        _compare(split, part.labels, first, names)
        # The last entry is what code -1 picks: hidden stays hidden.
        renumber = np.array([*(number[name] for name in part.labels.names), -1], dtype=np.int64)
        codes[split] = renumber[part.labels.codes]

    present = {split: np.isin(np.arange(len(names)), numbers) for split, numbers in codes.items()}
    for split in parts:
        odd = [name for name, here, there in zip(names, present[split], present[first], strict=True) if here > there]
        if odd:
            raise InputError(
                f"class {some(odd)} has images in {split} but none in {first}: add some or drop the class"
            )
    kept = present[first]
    if not kept.all():
        notes.append(
            f"{(~kept).sum()} of {len(names)} declared classes have no images and are left out: "
            f"{some(name for name, keep in zip(names, kept, strict=True) if not keep)}"
        )
    for split in parts:
        if missing := [name for name, here, there in zip(names, present[split], kept, strict=True) if there > here]:
            notes.append(f"{split} has no image of class {some(missing)}: it says nothing of it")
    renumber = np.append(np.cumsum(kept) - 1, -1)
    splits = {split: _with_label(part.images, renumber[codes[split]]) for split, part in parts.items()}
    names = [name for name, keep in zip(names, kept, strict=True) if keep]
    return splits, hidden, names, [*notes, *_doubts(names, bool(hidden))]
