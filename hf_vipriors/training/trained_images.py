"""Which images a model was trained on, as digests in a file beside it: is it now scored on some of them?

The file stays where the run was: nothing that goes to the Hub holds it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..data import ImageSplits
from ..data.exact_copies import digests
from ..files import replacing, save_tensors
from ..methods import METHODS
from .arguments import RunArguments
from .run_files import TRAINED_FILE

logger = logging.getLogger(__name__)
MOST_IMAGES = 50_000
LABELLED, UNLABELLED = "labelled", "unlabelled"


@dataclass(frozen=True)
class Seen:
    """How many of ``images`` a model was trained on, and how many of these without their labels alone."""

    count: int
    unlabelled: int
    images: int

    def words(self, model: str) -> str:
        """The warning in one line."""
        part = {0: "", self.count: ", without labels"}.get(self.unlabelled, f", {self.unlabelled} without labels")
        return (
            f"{self.count} of {self.images} scored images are among those that {model} was trained on{part}: these "
            "scores flatter; put images that it has not seen into test/CLASS/, or leave the others out"
        )


def splits_trained_on(splits: ImageSplits, args: RunArguments) -> list[str]:
    """Names of the splits whose images a run is trained on, with their labels or without."""
    with_unlabelled = METHODS[args.method].reads_unlabelled(args)
    return [name for name in ("train", *(("unlabelled",) if with_unlabelled else ())) if name in splits.splits]


def write_trained_images(directory: Path, splits: ImageSplits, args: RunArguments) -> None:
    """Keep 8 bytes of the digest of each image that a run is trained on; above 50,000 images nothing is kept.

    Args:
        directory: the run's folder.
        splits: of the run.
        args: complete; they tell which splits are trained on.
    """
    names = splits_trained_on(splits, args)
    if not names or sum(len(splits.splits[name]) for name in names) > MOST_IMAGES:
        return
    kept: dict[str, set[int]] = {LABELLED: set(), UNLABELLED: set()}
    for name in names:
        with_labels = name == "train" and METHODS[args.method].job == "student"
        kept[LABELLED if with_labels else UNLABELLED] |= set(map(_short, digests(splits.splits[name], name)))
    tensors = {kind: torch.tensor(sorted(found), dtype=torch.int64) for kind, found in kept.items()}
    with replacing(directory / TRAINED_FILE) as part:
        save_tensors(tensors, part)


def seen_in_training(directory: str | Path, images: Dataset, name: str) -> Seen | None:
    """How many images a model of ours was trained on; None: not one, or its folder does not tell.

    Args:
        directory: of the model.
        images: with an undecoded ``image`` column.
        name: what the progress bar calls them.
    """
    path = Path(directory) / TRAINED_FILE
    if not path.is_file():
        return None
    try:
        kept = {kind: set(tensor.tolist()) for kind, tensor in load_file(path).items()}
    except SafetensorError:
        logger.warning("%s is damaged: whether the model was trained on the scored images is not known", path)
        return None
    rows = {_short(digest): len(same) for digest, same in digests(images, name).items()}
    labelled, others = (
        sum(count for short, count in rows.items() if short in found)
        for found in (kept[LABELLED], kept[UNLABELLED] - kept[LABELLED])
    )
    return Seen(labelled + others, others, len(images)) if labelled or others else None


def _short(digest: bytes) -> int:
    return int(np.frombuffer(digest[:8], "<i8")[0])
