"""Images for a job that trains nothing: the splits of a data set, and of a folder of any layout every image."""

from __future__ import annotations

import logging
from pathlib import Path

from datasets import concatenate_datasets

from ..data import ImageSplits, splits_of
from ..data.image_files import FolderWalk
from ..data.image_folder import NoClasses, every_image
from ..errors import InputError
from ..training import DataArguments
from ..training.load_images import choose_images, load_images, read_images

logger = logging.getLogger(__name__)


def every_split(data: DataArguments) -> ImageSplits:
    """As :func:`~hf_vipriors.training.load_images.load_images`, and all images where a training could not use them.

    With an option that chooses among the images it is just that function. Without one, a data set that the protocol
    refuses (one class, no train split) keeps the splits that it has, and the images of a folder that are in no split
    are ``unlabelled``: those beside class folders, or all where no folder tells a class.

    Raises:
        InputError: nothing to load there, or a table of labels that does not fit.
    """
    if data.choosing():
        return load_images(data)
    try:
        found = read_images(data)
    except NoClasses as error:
        logger.warning("no image has a class: %s", error.on_command_line)
        return _with_others(ImageSplits({}, []), data)
    try:
        found = choose_images(found, data)
    except InputError as error:
        logger.info("the splits stay as they are: %s", error.on_command_line)
    return _with_others(found, data)


def _with_others(found: ImageSplits, data: DataArguments) -> ImageSplits:
    """With the images of a folder that are in no split."""
    if data.dataset_name != "imagefolder" or data.data_dir is None:
        return found
    known = {image["path"] for images in found.distinct.values() for image in images["image"]}
    root = Path(data.data_dir).expanduser()
    if known and known.issuperset(FolderWalk(root).images()):
        return found
    images = every_image(root)
    others = [row for row, image in enumerate(images["image"]) if image["path"] not in known]
    logger.info("%d images that are in no split, or were left out, count as unlabelled", len(others))
    added = splits_of({"unlabelled": images.select(others)}, "others").splits["unlabelled"]
    pool = [found.splits["unlabelled"]] if "unlabelled" in found.splits else []
    return ImageSplits(found.distinct | {"unlabelled": concatenate_datasets([*pool, added])}, found.class_names)
