"""What one look at every image of a data set tells: counts, duplicates and leaks, in plain types."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..comparison import Comparison
from ..data.duplicates import DuplicateGroups, Overlap
from ..data.survey import ImageSurvey
from .rules import Recommendation


@dataclass(frozen=True)
class Step:
    """A command to run next.

    Attributes:
        seconds: expected of the whole run on this machine, without its evaluations; None: not timed.
    """

    name: str
    command: str
    seconds: float | None


@dataclass(frozen=True)
class Group:
    """Images that are the same: ``exact`` in every pixel, or they look it."""

    exact: bool
    labels_disagree: bool
    images: list[dict[str, str | None]]


@dataclass(frozen=True)
class Advice:
    """All that was found, in plain types.

    Attributes:
        source: what the data is called.
        counts: readable images by split.
        per_class: by class, then by labelled split.
        shorter_side: smallest, median, largest, in pixels.
        aspect: median of longer / shorter side.
        gray: share of the images without colours.
        unreadable: by split, one line an image.
        near_duplicates_searched: False above 20,000 images, where only equal pixels are found.
        test_is_validation: there is no independent test split.
        compared: the networks of ``--compare`` against guessing; None: there are none.
    """

    source: str
    counts: dict[str, int]
    per_class: dict[str, dict[str, int]]
    shorter_side: tuple[int, int, int]
    aspect: float
    gray: float
    unreadable: dict[str, list[str]]
    duplicates: list[Overlap]
    groups: list[Group]
    near_duplicates_searched: bool
    test_is_validation: bool
    notes: list[str]
    recommendation: Recommendation
    steps: list[Step] = field(default_factory=list)
    compared: Comparison | None = None


def class_counts(found: ImageSurvey, class_names: list[str]) -> dict[str, dict[str, int]]:
    """Readable images by class and labelled split."""
    labelled = [(i, name) for i, name in enumerate(found.names) if name != "unlabelled"]
    return {
        label: {split: int(((found.split == i) & (found.labels == code)).sum()) for i, split in labelled}
        for code, label in enumerate(class_names)
    }


def named_groups(found: ImageSurvey, groups: DuplicateGroups, class_names: list[str]) -> list[Group]:
    """Every group of the same images: first where labels disagree, then across splits, then the rest."""
    named = []
    for members in groups.members():
        labels = set(found.labels[members].tolist()) - {-1}
        across = len(set(found.split[members].tolist())) > 1
        images = [
            {
                "split": found.names[found.split[i]],
                "place": found.place(i),
                "label": class_names[found.labels[i]] if found.labels[i] >= 0 else None,
            }
            for i in members
        ]
        exact = len(set(groups.exact[members].tolist())) == 1
        named.append(((len(labels) < 2, not across), Group(exact, len(labels) > 1, images)))
    return [group for _, group in sorted(named, key=lambda pair: pair[0])]
