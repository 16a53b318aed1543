"""The images that ``scripts/evaluate.py`` scores: a split of the protocol, or every labelled image of the data set."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from ..data import ImageSplits
from ..data.columns import class_name
from ..data.sources import counts_note, numbered_as
from ..errors import InputError
from ..models import VipriorsForImageClassification
from ..training import DataArguments
from ..training.load_images import choose_images, read_images
from .run_protocol import labels_of, runs_on

logger = logging.getLogger(__name__)
# What --split says, and what those images are called among the splits.
ALL, LABELLED = "all", "labelled"


def scored_images(
    data: DataArguments, split: str, classifiers: Mapping[str, VipriorsForImageClassification]
) -> ImageSplits:
    """The splits of the protocol, or all labelled images as the one split ``labelled``.

    Args:
        data: which data set, and which of its images.
        split: ``test``, ``validation`` or ``all``.
        classifiers: the students that are scored, by name. Of ``all`` images some of their classes may have none.

    Raises:
        InputError: no labels, no train split where there must be one, or ``all`` with an option that chooses images.
    """
    if split == ALL and (options := data.choosing()):
        given = ", ".join(f"--{name}" for name in options)
        raise InputError(f"{given} cannot go with --split all, which scores every labelled image: leave one out")
    found = read_images(data)
    if not found.class_names:
        raise InputError("no labelled split: scores need labels")
    labelled = found.labelled
    if split == ALL:
        found = replace(found, splits={LABELLED: labelled})
        name, first = next(iter(classifiers.items()))
        known = {class_name(each) for each in first.config.class_names}
        fewer = {class_name(each) for each in found.class_names} < known
        return numbered_as(found, first.config.class_names, name) if fewer else found
    if "train" not in found.splits:
        raise InputError(
            f"no labelled train split (found: {counts_note(found.splits)}): name one split train"
            + (f", or score all {len(labelled)} labelled images by --split all" if classifiers else "")
        )
    if split not in found.splits and classifiers and not runs_on(list(classifiers), data):
        logger.info(
            "no %s split, and no run of these models is of this data set: --split all scores all its %d labelled "
            "images, as of a folder that the models have never seen",
            split,
            len(labelled),
        )
    found = choose_images(found, data, labels_of(list(classifiers), data))
    check_set_apart(found, split)
    return found


def check_set_apart(splits: ImageSplits, split: str) -> None:
    """Refuse to score images that are not there.

    Raises:
        InputError: all labelled images are learnt from.
    """
    if split not in splits.splits:
        raise InputError(
            f"no {split} images, and --validation_share 0 sets none apart: add some in {split}/CLASS/, or in a table "
            "with a column split; --split all scores every labelled image"
        )
