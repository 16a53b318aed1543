"""``--advise --compare``: what a student has to beat, known before one is trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..comparison import Compared, Comparison, Footprint, best_of, compare, measure_frozen, milliseconds
from ..data import ImageSplits
from ..data.columns import label_array
from ..hub.teachers import Teacher
from ..machine import to_device
from ..reports.report_rows import RunRow
from ..reports.report_text import percent
from ..training import DataArguments
from ..training.cards import parameters
from .rules import Job
from .trial import student_of

_BATCH = 64


def alternatives(
    networks: dict[str, Teacher], splits: ImageSplits, data: DataArguments, job: Job, *, device: str
) -> Comparison:
    """Frozen networks on the labelled images, against always predicting one class.

    Args:
        networks: by the name that the user gave.
        splits: with labels.
        data: how images are read; those that cannot be are left out.
        job: of phase 2, beside whose network theirs cost what they do.
    """
    student = to_device(student_of(job, splits.class_names), device).eval()
    size = Footprint(parameters(student), milliseconds(student))
    readable = replace(data, on_bad_image="skip")
    found = [
        measure_frozen(name, network, splits, readable, "test", batch_size=_BATCH, device=device)
        for name, network in networks.items()
    ]
    subtitle = (
        f"fitted on the labelled training images, scored on the {splits.test_title} images; no network was trained"
    )
    baseline = most_frequent(label_array(splits.splits["train"]), found[0].labels, splits.class_names)
    return compare(found, baseline, subtitle, ("the recommended student", size), conclusions)


def most_frequent(train: np.ndarray, labels: np.ndarray, class_names: list[str]) -> RunRow:
    """The row of a classifier that predicts the most frequent class of ``train``, whatever the image.

    Example:
        >>> most_frequent(np.array([0, 1, 1]), np.array([0, 0, 0, 1]), ["cat", "dog"]).top1
        [0.25]
    """
    most = int(np.bincount(train).argmax())
    right = labels == most
    note = f"the most frequent class of the training images, {class_names[most]}, whatever the image"
    return RunRow("guessing", note, [float(right.mean())], None, len(labels), [], correct=[right])


def conclusions(compared: list[Compared]) -> list[str]:
    """What follows before any training, where the baseline is guessing."""
    best, lines = best_of(compared), []
    if best is not None:
        network, summary = best
        lines = [
            f"A student has to beat {percent(summary.top1)} % to be worth its training; where it does not, use that: "
            f"{network.title}."
        ]
    useless = [network.title for network, summary in compared if summary.outcome != "better"]
    return lines + [
        f"{title} is not significantly better than guessing, so it is no alternative." for title in useless
    ]
