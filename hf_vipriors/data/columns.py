"""Find the image and label columns of a data set, whatever they are called, and number its classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, Image, LargeList, List, Value

from ..errors import InputError, nearest

IMAGE_NAMES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp")
LABEL_NAMES = (
    "label",
    "labels",
    "fine_label",
    "target",
    "targets",
    "class",
    "classes",
    "class_name",
    "category",
    "cls",
    "y",
)
_WINDOW = 8192  # rows
_LABEL_DTYPES = ("int", "uint", "float", "string", "large_string", "string_view", "bool", "null")
# What a column of text says where a label is not known; "none" and "unknown" may be classes.
HIDDEN = ("", "-1", "nan")
_LONGEST = 60  # characters of a name in a message


def class_name(text: str) -> str:
    """A class's name as it is shown and compared: accents written in one way (NFC), no spaces around it.

    Example:
        >>> class_name(" cafe\u0301 ") == "caf\u00e9"
        True
    """
    return unicodedata.normalize("NFC", text).strip()


def match_classes(known: Sequence[str], wanted: Sequence[str], problem: str, mend: str) -> list[int]:
    """The place in ``known`` of each of ``wanted``, compared as :func:`class_name` writes them.

    Args:
        known, wanted: names of the same classes. Equal lists match one to one, even where a name stands there twice.
        problem, mend: beginning and end of the message when they are not the same classes.

    Raises:
        InputError: naming the odd ones.

    Example:
        >>> match_classes(["dog", "cat "], ["cat", "dog"], "other classes", "rename them")
        [1, 0]
    """
    ours, theirs = list(map(class_name, known)), list(map(class_name, wanted))
    if ours == theirs:
        return list(range(len(ours)))
    if odd := sorted(set(ours) ^ set(theirs)):
        raise InputError(f"{problem} ({some(odd, 5)}){case_hint(odd)}: {mend}")
    return [ours.index(each) for each in theirs]


def alike_but_for_case(names: Iterable[str]) -> list[str]:
    """The names that are another one in other case, such names beside each other.

    Example:
        >>> alike_but_for_case(["cat", "dog", "Cat"])
        ['Cat', 'cat']
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        groups.setdefault(name.casefold(), []).append(name)
    return [name for group in groups.values() if len(group) > 1 for name in group]


def case_hint(odd: Sequence[str], known: Sequence[str] = ()) -> str:
    """The end of a message on ``odd`` classes; empty where none is another of them, or a known one, in other case."""
    folded = {name.casefold() for name in odd}
    alike = [name for name in alike_but_for_case([*odd, *known]) if name.casefold() in folded]
    return f" ({some(alike)} differ only in case)" if alike else ""


class NotLabels(InputError):
    """What a column is called says that it holds labels, and its type that it does not."""


@dataclass(frozen=True)
class Labels:
    """Labels of one split as read.

    Attributes:
        names: of the classes.
        codes: (N,) int64, they count in ``names``; -1 where the label is hidden.
        declared: a ``ClassLabel`` gave the names; else they are those that occur.
    """

    names: list[str]
    codes: np.ndarray
    declared: bool = False


def label_array(dataset: Dataset) -> np.ndarray:
    """The ``label`` column as (N,) int64."""
    column = dataset.select_columns(["label"]).with_format("arrow")
    labels = np.empty(len(column), dtype=np.int64)
    # A window at a time: of a selection, datasets makes a table for each row that it gathers.
    for start in range(0, len(labels), _WINDOW):
        labels[start : start + _WINDOW] = column[start : start + _WINDOW]["label"].to_numpy()
    return labels


def some(names: Iterable[str], limit: int = 10) -> str:
    """Word a list of names, cut when it is long.

    Example:
        >>> some(["a", "b", "c"], limit=2)
        "'a', 'b' and 1 more"
    """
    names = list(names)
    text = ", ".join(repr(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}...") for name in names[:limit])
    return text if len(names) <= limit else f"{text} and {len(names) - limit} more"


def listed(features: Features) -> str:
    """Name every column with its type, for an error."""
    return ", ".join(
        f"{name} ({kind.dtype if isinstance(kind, Value) else type(kind).__name__})" for name, kind in features.items()
    )


def _preferred(candidates: list[str], names: tuple[str, ...]) -> str:
    return next((name for name in names if name in candidates), candidates[0])


def _check_exists(features: Features, column: str, option: str) -> None:
    if column not in features:
        raise InputError(f"no column {column!r} ({option}): {nearest(column, features)} (columns: {listed(features)})")


def _is_record(feature: object) -> bool:
    return isinstance(feature, dict) and ("bytes" in feature or "path" in feature)


def _has_dtype(feature: object, *prefixes: str) -> bool:
    return isinstance(feature, Value) and feature.dtype.startswith(prefixes)


def find_image_column(features: Features, wanted: str | None = None) -> str:
    """Name the column that holds the images.

    Args:
        features: of the data set.
        wanted: what the user asked for; it wins, and may also hold encoded bytes or paths.

    Returns:
        ``wanted``; else the column of type :class:`datasets.Image`; else the one of ``{"bytes", "path"}`` records.
        Among several the usual names (``image``, ``img``, ...) go first, then the first column.

    Raises:
        InputError: nothing fits; the message lists the columns.

    Example:
        >>> find_image_column(Features({"img": Image(), "label": Value("int64")}))
        'img'
    """
    if wanted is not None:
        _check_exists(features, wanted, "--image_column")
        feature = features[wanted]
        if isinstance(feature, Image) or _is_record(feature) or _has_dtype(feature, "binary", "large_", "string"):
            return wanted
        raise InputError(f"column {wanted!r} (--image_column) holds no images (columns: {listed(features)})")
    candidates = [name for name, feature in features.items() if isinstance(feature, Image)]
    candidates = candidates or [name for name, feature in features.items() if _is_record(feature)]
    if not candidates:
        raise InputError(f"no image column found: name it with --image_column (columns: {listed(features)})")
    return _preferred(candidates, IMAGE_NAMES)


def find_label_column(features: Features, wanted: str | None = None) -> str | None:
    """Name the column that holds the class labels, or None when there is none.

    Args:
        features: of the data set.
        wanted: what the user asked for; it wins.

    Returns:
        ``wanted``; else the :class:`datasets.ClassLabel` column; else a column of text or numbers, or of lists of one
        of them, with a usual name (``label``, ``labels``, ``fine_label``, ``target``, ``class``, ...).

    Raises:
        InputError: ``wanted`` does not exist, or a column that is called as labels are cannot name a class.
    """
    if wanted is not None:
        _check_exists(features, wanted, "--label_column")
        if not _is_label(features[wanted]):
            raise InputError(
                f"column {wanted!r} (--label_column) is no class label, text or number (columns: {listed(features)})"
            )
        return wanted
    candidates = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    if candidates:
        return _preferred(candidates, LABEL_NAMES)
    usual = [name for name in LABEL_NAMES if name in features]
    found = next((name for name in usual if _is_label(features[name])), None)
    if found is None and usual:
        raise NotLabels(
            f"column {usual[0]!r} is no class label, text or number: name another by --label_column "
            f"(columns: {listed(features)})"
        )
    return found


def _is_label(feature: object) -> bool:
    if isinstance(feature, List | LargeList):
        feature = feature.feature
    return isinstance(feature, ClassLabel) or _has_dtype(feature, *_LABEL_DTYPES)


def read_labels(dataset: Dataset, column: str, known: Collection[str] = ()) -> Labels:
    """Read a label column and number its classes.

    A ``ClassLabel`` keeps its order; numbers are in numeric order, text in alphabetic order; names are those of
    :func:`class_name`. Missing labels (also NaN, and in text nothing, ``-1`` and ``nan``) and the -1 by which public
    data sets hide test labels become -1. A list of one label is that label.

    Args:
        dataset: with ``column`` of a type that :func:`find_label_column` accepts.
        column: its name.
        known: classes that have their names elsewhere, as folders: such a value is a class, whatever it looks like.

    Raises:
        InputError: a ``ClassLabel`` without a name for one of its labels, or with one name twice; numbers that are no
            integers; lists of several labels.
    """
    values = dataset.select_columns([column]).with_format("arrow")[:][column]
    feature = dataset.features[column]
    if isinstance(feature, List | LargeList):
        values, feature = _only_of_each(values, column), feature.feature
    if isinstance(feature, ClassLabel):
        names = _distinct([class_name(name) for name in feature.names], feature.names, column)
        return Labels(names, _declared(pc.fill_null(values, -1).to_numpy(), feature, column), declared=True)
    if pa.types.is_floating(values.type):  # as pandas keeps integers of which some are missing
        values = _whole(values, column)
    elif not pa.types.is_integer(values.type) and not pa.types.is_boolean(values.type):
        values = pc.utf8_trim_whitespace(pc.utf8_normalize(pc.cast(values, pa.large_string()), form="NFC"))
        hidden = pc.is_in(pc.utf8_lower(values), value_set=pa.array(HIDDEN, values.type))
        hidden = pc.and_not(hidden, pc.is_in(values, value_set=pa.array(sorted(known), values.type)))
        values = pc.if_else(hidden, pa.scalar(None, values.type), values)
    missing = (None,) if "-1" in known else (None, -1)
    classes = sorted(value for value in pc.unique(values).to_pylist() if value not in missing)
    codes = pc.index_in(values, value_set=pa.array(classes, type=values.type))
    return Labels([str(value) for value in classes], pc.fill_null(codes, -1).to_numpy().astype(np.int64))


def _only_of_each(lists: pa.ChunkedArray, column: str) -> pa.ChunkedArray:
    """The one value of each list; a missing or empty list has none."""
    several = pc.max(pc.list_value_length(lists)).as_py() or 0
    if several > 1:
        raise NotLabels(
            f"column {column!r} ({lists.type}) has up to {several} labels an image, and one is needed: write the "
            "class itself (of a one-hot list the place of its 1) into a column, and name that by --label_column"
        )
    return pc.list_element(
        pc.if_else(pc.equal(pc.list_value_length(lists), 1), lists, pa.scalar([None], lists.type)), 0
    )


def _distinct(names: list[str], written: list[str], column: str) -> list[str]:
    for at, name in enumerate(names):
        if (first := names.index(name)) < at:
            raise InputError(
                f"column {column!r} declares classes {written[first]!r} and {written[at]!r}, which differ in spaces "
                "or accents alone: make them one"
            )
    return names


def _declared(codes: np.ndarray, feature: ClassLabel, column: str) -> np.ndarray:
    outside = codes[(codes < -1) | (codes >= len(feature.names))]
    if len(outside):
        raise InputError(
            f"column {column!r} holds label {outside[0]} in {len(outside)} rows, but names {len(feature.names)} "
            "classes, 0 and upwards: mend the column, or give its classes names"
        )
    return codes.astype(np.int64)


def _whole(values: pa.ChunkedArray, column: str) -> pa.ChunkedArray:
    values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    try:
        return pc.cast(values, pa.int64())
    except pa.ArrowInvalid:
        raise InputError(
            f"column {column!r} holds numbers that are no integers, and is taken for the label: name the classes by "
            "text or integers, or choose another column by --label_column"
        ) from None


def as_image_column(dataset: Dataset, column: str) -> Dataset:
    """Keep only the images, as a column ``image`` of undecoded ``{"bytes", "path"}`` records."""
    dataset = dataset.with_format(None).select_columns([column])
    if column != "image":
        dataset = dataset.rename_column(column, "image")
    return dataset.cast_column("image", Image(decode=False))
