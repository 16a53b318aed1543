"""``scripts/evaluate.py --compare``: a student beside what would be used otherwise."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..comparison import Compared, Comparison, Footprint, best_of, compare, measure_frozen, milliseconds
from ..hub.teachers import Teacher
from ..training import DataArguments
from ..training.cards import parameters
from ..training.stores import full_scale
from .evaluated import Evaluated
from .report import rows


def alternatives(
    networks: dict[str, Teacher], measured: Evaluated, data: DataArguments, *, batch_size: int, device: str
) -> Comparison:
    """The networks against the first classifier, on the same images.

    Args:
        networks: by the name that the user gave.
        measured: with a classifier.
        data: how the images were read.
    """
    student, label, split = measured.models[measured.first], measured.label(measured.first), measured.split
    size = Footprint(parameters(student), milliseconds(student))
    data = replace(data, full_scale=full_scale(student.config, data))  # wide gray images as the student sees them
    found = [
        measure_frozen(name, network, measured.splits, data, split, batch_size=batch_size, device=device)
        for name, network in networks.items()
    ]
    subtitle = f"fitted on the same labelled training images, scored on the same {measured.kind} images"
    conclude = partial(conclusions, student=label, size=size)
    return compare(found, rows(measured)[0], subtitle, (label, size), conclude)


def conclusions(compared: list[Compared], student: str, size: Footprint) -> list[str]:
    """What to do, a sentence each: use the best network that wins, or keep the student.

    Args:
        compared: networks with the student as baseline.
        student: what the student is called.
        size: what it costs.
    """
    best, lines = best_of(compared), []
    if best is not None:
        network, _ = best
        cost = network.footprint.beside(size, student)
        lines = [f"Use that: {network.title}, if its licence ({network.licence}) and its cost ({cost}) suit you."]
    for network, summary in compared:
        if summary.outcome == "worse":
            lines.append(f"{student} was worth its training: {network.title} is significantly worse.")
        elif summary.outcome == "unclear":
            smaller = student if size.params <= network.footprint.params else network.title
            lines.append(f"{network.title} and {student} do not differ significantly; the smaller is {smaller}.")
    return lines
