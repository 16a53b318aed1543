"""The images that ``scripts/evaluate.py`` scores: a split of the protocol, or every labelled image of the data set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from ..data import ImageSplits
from ..data.sources import counts_note
from ..errors import InputError
from ..training import DataArguments
from ..training.load_images import choose_images, read_images
from .run_protocol import runs_on

logger = logging.getLogger(__name__)
# What --split says, and what those images are called among the splits.
ALL, LABELLED = "all", "labelled"


def scored_images(data: DataArguments, split: str, classifiers: Sequence[str]) -> ImageSplits:
    """The splits of the protocol, or all labelled images as the one split ``labelled``.

    Args:
        data: which data set, and which of its images.
        split: ``test``, ``validation`` or ``all``.
        classifiers: names of the students that are scored.

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
        return replace(found, splits={LABELLED: labelled})
    if "train" not in found.splits:
        raise InputError(
            f"no labelled train split (found: {counts_note(found.splits)}): name one split train, or score all "
            f"{len(labelled)} labelled images by --split all"
        )
    if split not in found.splits and classifiers and not runs_on(classifiers, data):
        logger.info(
            "no %s split, and no run of these models is of this data set: --split all scores all its %d labelled "
            "images, as of a folder that the models have never seen",
            split,
            len(labelled),
        )
    return choose_images(found, data)
