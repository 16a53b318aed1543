"""From the arguments that say which images to the splits that a run may use."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
from datasets import Dataset

from ..data import ImageSplits, apply_protocol, keep_decoded, load_splits
from ..data.protocol import Choose
from ..errors import InputError
from ..evaluation.choosing import most_typical
from ..evaluation.features import features
from ..hub.teachers import load_teacher
from .data_arguments import DataArguments
from .stores import evaluation_store

logger = logging.getLogger(__name__)


def load_images(data: DataArguments, choose: Choose | None = None) -> ImageSplits:
    """Load a data set and choose the images of the protocol; every decision on the way is logged.

    Args:
        choose: who gives images a label in place of ``choose_with``.

    Raises:
        InputError: nothing to load there, or too few images.

    Example:
        >>> splits = load_images(DataArguments(images_per_class=5))
        >>> len(splits.splits["train"]), len(splits.class_names)
        (50, 10)
    """
    return choose_images(read_images(data), data, choose)


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


def choose_images(found: ImageSplits, data: DataArguments, choose: Choose | None = None) -> ImageSplits:
    """The second half: those of the protocol, with the splits that were missing.

    Raises:
        InputError: too few images, or no teacher of that name.
    """
    if choose is None and data.choose_with is not None:
        choose = partial(typical_images, data=data)
    splits = apply_protocol(
        found,
        images_per_class=data.images_per_class,
        subset_seed=data.subset_seed,
        unlabelled=data.unlabelled,
        validation_share=data.validation_share,
        validation_seed=data.validation_seed,
        limits=data.train_protocol(),
        choose=choose,
    )
    for note in splits.notes[len(found.notes) :]:
        logger.info(note)
    return splits


def typical_images(images: Dataset, count: int, data: DataArguments) -> np.ndarray:
    """Row numbers of those that label-next would ask for: the most typical ones to the network ``choose_with``.

    Its features are computed on the CPU, in each process of a launch: all must choose the same.

    Raises:
        InputError: no such network, or an image that cannot be read.
    """
    teacher = load_teacher(str(data.choose_with), flag="choose_with")
    logger.info("%d of %d images to label are chosen by the features of %s", count, len(images), data.choose_with)
    store = evaluation_store(images, teacher.config, data, "images to choose from")
    if missing := len(images) - len(store):
        raise InputError(f"--choose_with: {missing} of the training images cannot be read: mend them, or remove them")
    values = features(teacher, store, batch_size=256, device="cpu").values
    return np.sort(most_typical(values, count, seed=data.subset_seed)[0])
