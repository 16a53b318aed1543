"""The images of a finished run, looked for where its ``run.json`` says that they lie."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from pathlib import Path

from ..data import FASHION_VIPRIORS, ImageSplits
from ..data.columns import match_classes
from ..errors import InputError, one_line
from ..hub.native_export import native_config
from .data_arguments import DataArguments
from .load_images import load_images
from .run_files import RUN_FILE, RunRecord, read_run
from .trained_images import labels_of_run, unknown_images


def data_of(run: RunRecord) -> DataArguments:
    return DataArguments(**{each.name: run.data[each.name] for each in fields(DataArguments) if each.name in run.data})


class ImagesOfRun:
    """The images of a finished run, read once and when they are first asked for.

    Args:
        directory: the run's folder.
    """

    def __init__(self, directory: Path):
        self.directory = directory

    @cached_property
    def data(self) -> DataArguments:
        """How the run read its images."""
        return data_of(read_run(self.directory))

    @cached_property
    def splits(self) -> ImageSplits:
        """The images as the run had them.

        Raises:
            InputError: they are not there, or others are.
        """
        data = self.data  # a missing run.json says so itself
        try:
            # The network that chose the labels may be gone, or another by now.
            labels = None if data.choose_with is None else labels_of_run(self.directory)
            splits = load_images(data, labels)
            problem = unknown_images(self.directory, splits)
        except InputError as error:
            problem = one_line(error, None)
        if problem is not None:
            raise InputError(f"{problem}; {self.directory / RUN_FILE} says where its images are{self._relative()}")
        return splits

    @cached_property
    def class_order(self) -> list[int]:
        """Which output of the student answers for each class of the images.

        Raises:
            InputError: the images have other classes today than when it was trained.
        """
        problem = f"the images have other classes today than {self.directory} was trained on"
        known = native_config(self.directory).class_names
        return match_classes(known, self.splits.class_names, problem, "name them as they were")

    def _relative(self) -> str:
        data = self.data
        if data.dataset_name == FASHION_VIPRIORS:
            return ""
        own = data.dataset_name in ("imagefolder", "parquet")
        for place in (data.data_dir, data.labels) if own else (data.dataset_name,):
            if place is not None and not Path(place).expanduser().is_absolute():
                return f" ({place!r}, if it is a path, counts from the current folder)"
        return ""
