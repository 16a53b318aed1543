"""Images for a job that trains nothing: the splits of a data set, and of a folder every other image too."""

from __future__ import annotations

import logging
import os
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
    refuses (one class, no train split) keeps the splits that it has, and images in ``data_dir`` that are in no split
    are ``unlabelled``: those beside class folders, or all where no folder tells a class. Folders that tell classes in
    two ways, or leave one empty, are refused as ever: labels that are known must not be lost.

    Raises:
        InputError: nothing to load there, classes that could be meant in two ways, or a table of labels that does not
            fit.
    """
    if data.choosing():
        return load_images(data)
    root = data.data_dir if data.dataset_name == "imagefolder" else None
    try:
        found = read_images(data)
    except NoClasses as error:  # which comes of folders of images alone
        logger.warning("no image has a class: %s", error.on_command_line)
        return _with_others(ImageSplits({}, []), root or data.dataset_name)
    try:
        found = choose_images(found, data)
    except InputError as error:
        logger.info("the splits stay as they are: %s", error.on_command_line)
    return found if root is None else _with_others(found, root)


def _with_others(found: ImageSplits, folder: str) -> ImageSplits:
    """With the images of a folder that are in no split."""
    known = {os.path.realpath(image["path"]) for images in found.distinct.values() for image in images["image"]}
    root = Path(folder).expanduser()
    if known and known.issuperset(map(os.path.realpath, FolderWalk(root).images())):
        return found
    images = every_image(root)
    others = [row for row, image in enumerate(images["image"]) if os.path.realpath(image["path"]) not in known]
    logger.info("%d images that are in no split, or were left out, count as unlabelled", len(others))
    added = splits_of({"unlabelled": images.select(others)}, "others").splits["unlabelled"]
    pool = [found.splits["unlabelled"]] if "unlabelled" in found.splits else []
    return ImageSplits(found.distinct | {"unlabelled": concatenate_datasets([*pool, added])}, found.class_names)
