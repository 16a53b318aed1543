"""Score a model on the images that its training had set aside, with the same labels: what its run says of both."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.protocol import Choose
from ..training import DataArguments
from ..training.data_arguments import CHOICE
from ..training.run_files import RUN_FILE, read_run
from ..training.trained_images import labels_of_run

logger = logging.getLogger(__name__)
# What labels them.
READING = ("labels", "label_column", "image_column")


def runs_on(models: Sequence[str], data: DataArguments) -> list[dict[str, Any]]:
    """The data options of the models' runs, of those that are folders of runs on the same data."""
    runs = [read_run(Path(name)).data for name in models if (Path(name) / RUN_FILE).is_file()]
    return [run for run in runs if _source(run) == _source(vars(data))]


def protocol_of(models: Sequence[str], data: DataArguments, choice: Sequence[str] = CHOICE) -> dict[str, Any]:
    """The options of ``choice`` and :data:`READING` that the runs of the models had, where these agree.

    Args:
        models: names; those that are no folder of a run on the same data say nothing.
        data: what they are scored on.
        choice: empty where all images are scored.

    Example:
        >>> protocol_of(["no/such/run"], DataArguments())
        {}
    """
    of_data = runs_on(models, data)
    choices = [{name: run[name] for name in choice if run.get(name) is not None} for run in of_data]
    if any(each != choices[0] for each in choices):
        logger.info("the models were trained on different choices of images: those of the command line count")
        choices = []
    found = choices[0] if choices else {}
    for name in READING:
        values = [run.get(name) for run in of_data]  # none is an answer too: as folders and names say
        if any(value != values[0] for value in values):
            logger.info("the models were trained with different --%s: that of the command line counts", name)
        elif values and values[0] is not None:
            found[name] = values[0]
    return found


def labels_of(models: Sequence[str], data: DataArguments) -> Choose | None:
    """The labels of the models' run, where a network chose them.

    Returns:
        None where none did, where others are asked for, where several runs may have others, or where the run does not
        tell: then they are drawn.
    """
    of_data = {name: runs_on([name], data) for name in models}
    chose = [name for name, runs in of_data.items() if any(run.get("choose_with") for run in runs)]
    if not chose or data.choose_with is not None:
        return None
    (run,) = of_data[chose[0]]
    same = all(run.get(name) == vars(data)[name] for name in CHOICE) and not data.train_protocol().active
    labels = labels_of_run(Path(chose[0])) if same and len(models) == 1 else None
    if labels is None:
        logger.info("labels of %s were chosen by a network; where scores want labels, here they are drawn", chose[0])
    return labels


def log_protocol(taken: Mapping[str, Any], given: DataArguments, used: DataArguments, models: Sequence[str]) -> None:
    """Say what was taken from the runs and differs from what would count without them."""
    changed = [f"--{name} {value}" for name, value in taken.items() if vars(used)[name] != vars(given)[name]]
    if changed:
        logger.info("as in the training of %s: %s", ", ".join(models), " ".join(changed))


def _source(data: Mapping[str, Any]) -> tuple[Any, ...]:
    """Where images are from; folders by where they lie."""
    places = [(place, Path(place or "").expanduser()) for place in (data.get("dataset_name"), data.get("data_dir"))]
    local = [path.resolve() if place and path.exists() else place for place, path in places]
    return *local, data.get("dataset_config"), data.get("dataset_revision")
