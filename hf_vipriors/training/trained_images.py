"""Which images a model was trained and scored on, as digests in a file beside it: does it see some of them again?

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
from ..data.protocol import Choose
from ..files import replacing, save_tensors
from ..methods import METHODS
from .arguments import RunArguments
from .run_files import TRAINED_FILE

logger = logging.getLogger(__name__)
MOST_IMAGES = 50_000
LABELLED, UNLABELLED, SCORED = "labelled", "unlabelled", "scored"


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
    """Keep 8 bytes of the digest of each image that a run is trained on, and that a student is scored on.

    Of more than 50,000 images of either kind none is kept.

    Args:
        directory: the run's folder.
        splits: of the run.
        args: complete; they tell which splits are trained on.
    """
    names, kept = splits_trained_on(splits, args), {}
    student = METHODS[args.method].job == "student"
    if names and sum(len(splits.splits[name]) for name in names) <= MOST_IMAGES:
        kept = {LABELLED: set[int](), UNLABELLED: set[int]()}
        for name in names:
            kept[LABELLED if student and name == "train" else UNLABELLED] |= _digests(splits.splits[name], name)
    if student and "test" in splits.splits and len(splits.splits["test"]) <= MOST_IMAGES:
        kept[SCORED] = _digests(splits.splits["test"], "test")
    if not kept:
        return
    tensors = {kind: torch.tensor(sorted(found), dtype=torch.int64) for kind, found in kept.items()}
    with replacing(directory / TRAINED_FILE) as part:
        save_tensors(tensors, part)


def unknown_images(directory: Path, splits: ImageSplits) -> str | None:
    """What is wrong where a finished run knows none of the images; None: it knows some, or does not tell.

    Args:
        directory: the run's folder.
        splits: loaded as the run loaded them.
    """
    kept = _read(directory) or {}
    for kind, name, use in ((SCORED, "test", "scored"), (LABELLED, "train", "trained")):  # of before: the latter alone
        if kept.get(kind) and name in splits.splits:
            known = kept[kind] & _digests(splits.splits[name], name)
            return None if known else f"none of the {name} images is one that {directory} was {use} on"
    return None


def labels_of_run(directory: Path) -> Choose | None:
    """Chooses the images that a finished run had a label of, without the network that chose them then.

    Returns:
        None where the run's folder does not tell which they were.
    """
    kept = (_read(directory) or {}).get(LABELLED)
    if not kept:
        return None

    def choose(images: Dataset, count: int) -> np.ndarray:
        found = digests(images, "images to choose from").items()
        return np.array(sorted(row for digest, rows in found if _short(digest) in kept for row in rows), int)

    return choose


def same_scored_images(first: Path, second: Path) -> bool:
    """Whether two runs were scored on the same images, as far as both tell."""
    found = [(_read(each) or {}).get(SCORED) for each in (first, second)]
    return None in found or found[0] == found[1]


def seen_in_training(directory: str | Path, images: Dataset, name: str) -> Seen | None:
    """How many images a model of ours was trained on; None: not one, or its folder does not tell.

    Args:
        directory: of the model.
        images: with an undecoded ``image`` column.
        name: what the progress bar calls them.
    """
    kept = _read(Path(directory))
    if kept is None or LABELLED not in kept:
        return None
    rows = {_short(digest): len(same) for digest, same in digests(images, name).items()}
    labelled, others = (
        sum(count for short, count in rows.items() if short in found)
        for found in (kept[LABELLED], kept[UNLABELLED] - kept[LABELLED])
    )
    return Seen(labelled + others, others, len(images)) if labelled or others else None


def _read(directory: Path) -> dict[str, set[int]] | None:
    """What :func:`write_trained_images` kept; None: nothing, or nobody can tell."""
    path = directory / TRAINED_FILE
    if not path.is_file():
        return None
    try:
        return {kind: set(tensor.tolist()) for kind, tensor in load_file(path).items()}
    except SafetensorError:
        logger.warning("%s is damaged: which images the model was trained and scored on is not known", path)
        return None


def _digests(images: Dataset, name: str) -> set[int]:
    return set(map(_short, digests(images, name)))


def _short(digest: bytes) -> int:
    return int(np.frombuffer(digest[:8], "<i8")[0])
