"""From the arguments that say which images to the splits that a run may use."""

from __future__ import annotations

import logging

from ..data import ImageSplits, apply_protocol, keep_decoded, load_splits
from .data_arguments import DataArguments

logger = logging.getLogger(__name__)


def load_images(data: DataArguments) -> ImageSplits:
    """Load a data set and choose the images of the protocol; every decision on the way is logged.

    Raises:
        InputError: nothing to load there, or too few images.

    Example:
        >>> splits = load_images(DataArguments(images_per_class=5))
        >>> len(splits.splits["train"]), len(splits.class_names)
        (50, 10)
    """
    return choose_images(read_images(data), data)


def read_images(data: DataArguments) -> ImageSplits:
    """The first half of :func:`load_images`: all images of the splits that the data set has.

    Raises:
        InputError: nothing to load there.
    """
    keep_decoded(data.store)
    found = load_splits(
        data.dataset_name,
        config_name=data.dataset_config,
        data_dir=data.data_dir,
        revision=data.dataset_revision,
        labels=data.labels,
        image_column=data.image_column,
        label_column=data.label_column,
    )
    for note in found.notes:  # what was read, before it is refused as too little
        logger.info(note)
    return found


def choose_images(found: ImageSplits, data: DataArguments) -> ImageSplits:
    """The second half: those of the protocol, with the splits that were missing.

    Raises:
        InputError: too few images.
    """
    splits = apply_protocol(
        found,
        images_per_class=data.images_per_class,
        subset_seed=data.subset_seed,
        unlabelled=data.unlabelled,
        validation_share=data.validation_share,
        validation_seed=data.validation_seed,
        limits=data.train_protocol(),
    )
    for note in splits.notes[len(found.notes) :]:
        logger.info(note)
    return splits
