"""The VIPriors protocol for any data set: few images per class, a carved validation split, an unlabelled pool."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from datasets import Dataset, concatenate_datasets

from ..errors import InputError, nearest
from .columns import label_array, some
from .sources import ImageSplits, counts_note
from .split_names import LABELLED_SPLITS
from .train_protocol import TrainProtocol

UNLABELLED_CHOICES = ("split", "rest", "none")
CARVED = "no validation split: carved from train"
"""How the note begins that says so."""
Choose = Callable[[Dataset, int], np.ndarray]
"""Of images and a count to the row numbers of as many, which get a label."""


def _check(
    splits: ImageSplits, images_per_class: int | None, subset_seed: int, unlabelled: str, validation_share: float
) -> None:
    if unlabelled not in UNLABELLED_CHOICES:
        raise InputError(f"--unlabelled {unlabelled!r} is unknown: {nearest(unlabelled, UNLABELLED_CHOICES)}")
    if images_per_class is not None and images_per_class < 1:
        raise InputError(f"--images_per_class {images_per_class} is too small: choose at least 1")
    if subset_seed < 0:
        raise InputError(f"--subset_seed {subset_seed} is negative: choose 0 or more")
    if not 0 <= validation_share < 1:
        raise InputError(f"--validation_share {validation_share} is no share: choose a number from 0 to below 1")
    if "train" not in splits.splits and any(split in splits.splits for split in LABELLED_SPLITS):
        raise InputError(f"no labelled train split (found: {counts_note(splits.splits)}): name one split train")
    if "train" in splits.splits and len(splits.class_names) < 2:
        raise InputError(
            f"only one class, {some(splits.class_names)}: a classifier needs two or more; check --label_column, "
            "or that --data_dir holds one folder a class"
        )


def _shuffled_by_class(labels: np.ndarray, classes: int, seed: int) -> list[np.ndarray]:
    """Row numbers of each class in a random order of its own: one class does not move another's choice."""
    return [
        np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label)) for label in range(classes)
    ]


def _too_few(class_names: list[str], rows: list[np.ndarray], needed: int) -> str:
    lacking = [
        f"{name!r} has {len(members)}"
        for name, members in zip(class_names, rows, strict=True)
        if len(members) < needed
    ]
    return ", ".join(lacking[:10]) + (f" and {len(lacking) - 10} classes more" if len(lacking) > 10 else "")


def _share_of(count: int, share: float) -> int:
    """How many of ``count`` (two or more) go to validation: at least one, and at least one stays."""
    return min(max(1, round(share * count)), count - 1)


def _carve(
    rows: list[np.ndarray],
    held_out: list[np.ndarray],
    images_per_class: int | None,
    share: float,
    class_names: list[str],
) -> tuple[list[np.ndarray], list[np.ndarray], str]:
    """Cut each class's shuffled rows into (train, validation), and word how.

    Train takes from the front of ``rows`` and validation from the back of ``held_out``, which is the same rows in
    another order or in the same one, so that a larger ``images_per_class`` only adds rows.
    """
    fewest = min(map(len, rows))
    if fewest < 2:
        raise InputError(
            "no validation split, and too few train images to carve one from: class "
            f"{_too_few(class_names, rows, 2)}; add images or a validation split, or learn from all and measure "
            "nothing: --validation_share 0"
        )
    if images_per_class is None:
        sizes = [_share_of(len(members), share) for members in rows]
        keep = [len(members) - size for members, size in zip(rows, sizes, strict=True)]
        how = f"{share:.0%} of each class's train images"
    else:
        size = images_per_class if fewest >= 2 * images_per_class else _share_of(images_per_class, share)
        kept = images_per_class
        how = f"{size} per class of the train images that were not chosen"
        if fewest < images_per_class + size:
            kept -= size
            held_out = [members[:images_per_class] for members in held_out]
            how = f"{size} of {images_per_class} images per class, of which train keeps {kept}"
        sizes, keep = [size] * len(rows), [kept] * len(rows)
    validation = [members[-size:] for members, size in zip(held_out, sizes, strict=True)]
    left = (members[~np.isin(members, out)] for members, out in zip(rows, validation, strict=True))
    return [members[:count] for members, count in zip(left, keep, strict=True)], validation, how


def _choice(
    train: Dataset,
    rows: list[np.ndarray],
    count: int,
    carved: list[np.ndarray],
    choose: Choose,
    class_names: list[str],
) -> tuple[list[np.ndarray], str]:
    """Each class's rows of those that ``choose`` gives a label, of all that are not carved; and in words."""
    free = np.setdiff1d(np.arange(len(train)), np.concatenate([[], *carved]).astype(int))
    found = free[choose(train.select(free), count)]
    chosen = [np.intersect1d(members, found) for members in rows]
    fewest, most = min(map(len, chosen)), max(map(len, chosen))
    names = some(name for name, members in zip(class_names, chosen, strict=True) if len(members) == fewest)
    asked = "" if len(found) == count else f" ({count} were asked for)"
    how = f"{len(found)} of {len(free)} train images get a label{asked}: {fewest} to {most} of each class"
    return chosen, f"{how}, the fewest of {names}"


def _select(dataset: Dataset, rows: list[np.ndarray]) -> Dataset:
    return dataset.select(np.sort(np.concatenate(rows)))


def _train_split(
    train: Dataset, rows: list[np.ndarray], limits: TrainProtocol, class_names: list[str], seed: int
) -> tuple[Dataset, list[str]]:
    """The chosen images, some of them perhaps with wrong labels; no image is read."""
    labels = label_array(train)
    chosen = np.sort(np.concatenate(rows))
    labels[chosen], notes = limits.spoil(labels[chosen], class_names, seed)
    if notes:
        # On all rows and before they are chosen: adding a column to a selection would rewrite all its images.
        train = train.remove_columns("label").add_column("label", labels)
    return train.select(chosen), notes


def _unlabelled_pool(own: Dataset | None, train: Dataset, used: np.ndarray, choice: str) -> Dataset | None:
    if choice == "none":
        return None
    pools = [] if own is None else [own]
    rest = np.setdiff1d(np.arange(len(train)), used)
    if choice == "rest" and len(rest):
        pools.append(train.select(rest).remove_columns("label"))
    return concatenate_datasets(pools) if pools else None


def apply_protocol(
    splits: ImageSplits,
    *,
    images_per_class: int | None = None,
    subset_seed: int = 0,
    unlabelled: str = "split",
    validation_share: float = 0.2,
    validation_seed: int | None = None,
    limits: TrainProtocol | None = None,
    choose: Choose | None = None,
) -> ImageSplits:
    """Choose the images that may be used. Only row numbers and labels are touched; ``choose`` alone may read a pixel.

    The same data set as loaded and the same seed give the same rows, and a smaller ``images_per_class`` or
    ``train_fraction`` chooses a subset of a larger one's.

    Args:
        splits: from :func:`hf_vipriors.data.load_splits`.
        images_per_class: train images to keep of each class (the challenge: 50); None keeps all.
        subset_seed: of the choice, and of the carving where it has no seed of its own.
        unlabelled: pool for label-free training: ``"split"`` the data set's own unlabelled split if it has one,
            ``"rest"`` that and the train images neither chosen nor carved, ``"none"`` nothing.
        validation_share: share to carve when validation is missing and there are not ``images_per_class`` further
            images of each class for it; 0: none is carved, and all are learnt from.
        validation_seed: of the carving; None: ``subset_seed``.
        limits: imbalance, a share of the images and label noise, for the train split alone; None for none. Images
            they leave out count as not chosen (``unlabelled="rest"``).
        choose: who chooses ``images_per_class`` times as many train images as there are classes, of which classes may
            have more and fewer, among those that are not set aside; None: as many of each class at random.

    Returns:
        ``train``, ``validation``, ``test`` (the validation images where the data set has no test split: a note says
        so; neither where there is no validation split and none is carved) and perhaps ``unlabelled``. A data set
        without any labels comes back with ``unlabelled`` alone.

    Raises:
        InputError: a class with too few images (named, with its count), one class only, or no labelled train split.
        ValueError: ``choose`` without ``images_per_class``, or with ``limits``.

    Example:
        >>> from hf_vipriors.data import load_splits
        >>> chosen = apply_protocol(load_splits("fashion-vipriors"), images_per_class=10, unlabelled="rest")
        >>> {split: len(dataset) for split, dataset in chosen.splits.items()}
        {'train': 100, 'validation': 500, 'test': 2000, 'unlabelled': 5400}
    """
    _check(splits, images_per_class, subset_seed, unlabelled, validation_share)
    limits = limits or TrainProtocol()
    if choose is not None and (images_per_class is None or limits.active):
        raise ValueError("choose goes with images_per_class, and without limits")
    own = splits.splits.get("unlabelled")
    if "train" not in splits.splits:
        if images_per_class is not None or own is None or unlabelled == "none" or limits.active:
            raise InputError(
                "no labelled train split: --images_per_class, --imbalance, --train_fraction, --label_noise and "
                "--unlabelled none need class labels"
            )
        notes = [*splits.notes, "no labels at all: only label-free training is possible"]
        return ImageSplits({"unlabelled": own}, [], notes, unlabelled_because=splits.unlabelled_because)

    train, class_names, notes = splits.splits["train"], splits.class_names, list(splits.notes)
    rows = _shuffled_by_class(label_array(train), len(class_names), subset_seed)
    if images_per_class is not None and min(map(len, rows)) < images_per_class:
        raise InputError(
            f"--images_per_class {images_per_class} is more than the train split holds: class "
            f"{_too_few(class_names, rows, images_per_class)}; choose a smaller number"
        )
    result: dict[str, Dataset] = {}
    chosen = [members[:images_per_class] for members in rows]
    carved: list[np.ndarray] = []
    if "validation" in splits.splits:
        result["validation"] = splits.splits["validation"]
    elif validation_share > 0:
        carving = subset_seed if validation_seed is None else validation_seed
        held_out = _shuffled_by_class(label_array(train), len(class_names), carving)
        chosen, carved, how = _carve(rows, held_out, images_per_class, validation_share, class_names)
        result["validation"] = _select(train, carved)
        notes.append(f"{CARVED}, {how} (seed {carving})")
    if choose is not None:
        chosen, how = _choice(train, rows, sum(map(len, chosen)), carved, choose, class_names)
        notes.append(how)
    elif images_per_class is not None:
        notes.append(f"{images_per_class} train images per class asked for, chosen with seed {subset_seed}")
    chosen, thinned = limits.thin_out(chosen, class_names)
    labelled, spoilt = _train_split(train, chosen, limits, class_names, subset_seed)
    notes += [*thinned, *spoilt]
    result = {"train": labelled, **result}
    if "test" in splits.splits:
        result["test"] = splits.splits["test"]
    elif "validation" in result:
        result["test"] = result["validation"]
        notes.append(
            "NO INDEPENDENT TEST SPLIT: 'test' is the validation split again, so test figures are optimistic for "
            "anything that was chosen on validation"
        )
    if "validation" not in result:
        unknown = "" if "test" in result else ", AND HOW GOOD THE MODEL IS STAYS UNKNOWN"
        notes.append(f"no validation split, and share 0 carves none{unknown}")
    pool = _unlabelled_pool(own, train, np.concatenate([*chosen, *carved]), unlabelled)
    if pool is not None:
        result["unlabelled"] = pool
    notes.append(f"protocol: {counts_note(result)} images")
    return ImageSplits(result, class_names, notes)
