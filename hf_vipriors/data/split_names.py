"""The four split names of this package and the other names they go by."""

from __future__ import annotations

import re

SPLITS = ("train", "validation", "test", "unlabelled")
LABELLED_SPLITS = ("train", "validation", "test")

_ALIASES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "unlabelled": "unlabelled",
    "unlabeled": "unlabelled",
    "unsupervised": "unlabelled",
}


def canonical_split(name: str) -> str | None:
    """Translate a split or folder name, in any case; None when it is not one of ours.

    Example:
        >>> canonical_split("Val"), canonical_split("unlabeled"), canonical_split("cats")
        ('validation', 'unlabelled', None)
    """
    return _ALIASES.get(name.lower())


def split_of_file(stem: str) -> str | None:
    """Translate the beginning of a file name: the letters before the first digit, dash, dot or underscore.

    Example:
        >>> split_of_file("train-00000-of-00002"), split_of_file("trainers"), split_of_file("val_1")
        ('train', None, 'validation')
    """
    return canonical_split(re.match(r"[A-Za-z]*", stem).group())
