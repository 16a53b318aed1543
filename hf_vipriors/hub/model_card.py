"""The README.md beside a model: rendered from what was measured, never typed, and never more than was measured.

Why ``library_name: transformers`` for the student. The folder is a ``TimmWrapperForImageClassification`` checkpoint,
saved in transformers' layout, so the Hub reads its ``config.json`` as a transformers model and shows the
``pipeline()`` snippet and the image-classification widget. transformers itself pushes such models with this library
name and adds the tag ``timm`` (its pull request 35794), whereupon the Hub shows the snippets of both libraries; we do
the same. The teacher's class lives in this package, so its card names ``hf_vipriors``: with "transformers" the Hub
would offer a snippet that cannot run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

_PLACE = "path/to/this/folder"


@dataclass(frozen=True)
class ScoreRow:
    """One measured accuracy; fractions, 0 to 1.

    Attributes:
        name: how it was got, such as "student, one crop" or "weighted kNN on frozen features".
        top1: measured value.
        interval: its 95 % interval, or None.
        top5: or None.
        role: "model" for a value of the very model this card lies beside (these go into the metadata), "baseline" for
            the supervised baseline on the same labels, "other" for anything else worth comparing.
        note: one line on what was done, may be empty.

    Raises:
        ValueError: a value outside 0..1 (percent given for a fraction), or an interval that does not hold the value.
    """

    name: str
    top1: float
    interval: tuple[float, float] | None = None
    top5: float | None = None
    role: Literal["model", "baseline", "other"] = "other"
    note: str = ""

    def __post_init__(self) -> None:
        if not all(0 <= value <= 1 for value in (self.top1, 0.0 if self.top5 is None else self.top5)):
            raise ValueError(f"{self.name}: accuracies are fractions within 0 and 1, got {self.top1}, {self.top5}")
        if self.interval is not None and not self.interval[0] <= self.top1 <= self.interval[1]:
            raise ValueError(f"{self.name}: {self.top1} lies outside its interval {self.interval}")
        if self.role not in ("model", "baseline", "other"):
            raise ValueError(f"{self.name}: role must be 'model', 'baseline' or 'other', got {self.role!r}")


@dataclass(frozen=True)
class Paper:
    """A paper whose method was used."""

    title: str
    url: str


@dataclass
class CardFacts:
    """What is known of a model. Whatever stays empty is left out of the card.

    Attributes:
        model_name: as it is to be called, such as "fashion-vipriors-resnet18".
        kind: "student" (a classifier, native checkpoint) or "teacher" (self-supervised features, our class).
        backbone: timm name.
        image_size: side of the square input, pixels.
        class_names: of the student's outputs; for a teacher, of the classes it was measured on.
        dataset_name: in plain words, such as "Fashion-VIPriors (50 images per class)".
        method: the method's name, such as "overhaul".
        settings: what was set, name -> value.
        scores: rows for the table; the supervised baseline belongs among them.
        interval_note: how the intervals were made.
        verdict: sentences on what the comparison shows, such as the report's ``verdict_lines``.
        params: number of parameters.
        dataset_id: the id on the Hub of the very data set that was measured on, if it has one.
        dataset_sources: Hub ids of data sets the images were taken from; listed, but no result is claimed on them.
        split: which split the scores are of; "validation" where no independent test exists, which the card then says.
        dataset_licence: licence of the images; dataset_counts: split -> number of images.
        per_class: class -> accuracy (None: no image of the class).
        seconds: training time; hardware: what it ran on.
        versions: library -> version.
        teacher: the models this one came from, nearest first.
        papers: whose methods were used.
        native: the folder ``native`` in the model's own holds its backbone for other programs.
        own_architecture: timm knows the backbone only once hf_vipriors is imported: the snippets do so, and no widget
            can run it.
        licence: of the weights (a Hub licence id); repo_id: where it will be pushed, for the snippets.
    """

    model_name: str
    kind: Literal["student", "teacher"]
    backbone: str
    image_size: int
    class_names: list[str]
    dataset_name: str
    method: str
    settings: dict = field(default_factory=dict)
    scores: list[ScoreRow] = field(default_factory=list)
    interval_note: str = "95 % Wilson interval on the test images"
    verdict: list[str] = field(default_factory=list)
    params: int | None = None
    dataset_id: str | None = None
    dataset_sources: Sequence[str] = ()
    dataset_licence: str | None = None
    split: str = "test"
    dataset_counts: dict[str, int] = field(default_factory=dict)
    per_class: dict[str, float | None] = field(default_factory=dict)
    seconds: float | None = None
    hardware: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    teacher: Sequence[str] = ()
    papers: Sequence[Paper] = ()
    native: bool = False
    own_architecture: bool = False
    licence: str | None = None
    repo_id: str | None = None


def student_card(facts: CardFacts) -> ModelCard:
    """The card of a classifier exported by :func:`hf_vipriors.hub.native_export.export_native`.

    Returns:
        A ``huggingface_hub.ModelCard``; ``card.save(folder / "README.md")`` writes it.

    Raises:
        ValueError: the facts are a teacher's.

    Example:
        >>> facts = CardFacts("my-student", "student", "resnet18", 64, ["cat", "dog"], "pets", "overhaul")
        >>> student_card(facts).data.pipeline_tag
        'image-classification'
    """
    _check_kind(facts, "student")
    return _card(
        facts,
        pipeline_tag="image-classification",
        library_name="transformers",
        tags=["image-classification", "timm", "vipriors", "few-images", "knowledge-distillation"],
    )


def teacher_card(facts: CardFacts) -> ModelCard:
    """The card of a self-supervised teacher saved by ``VipriorsModel.save_pretrained``.

    Raises:
        ValueError: the facts are a student's.
    """
    _check_kind(facts, "teacher")
    return _card(
        facts,
        pipeline_tag="image-feature-extraction",
        library_name="hf_vipriors",
        tags=["image-feature-extraction", "timm", "vipriors", "few-images", "self-supervised-learning"],
    )


def _check_kind(facts: CardFacts, kind: str) -> None:
    if facts.kind != kind:
        raise ValueError(f"these are a {facts.kind}'s facts ({facts.model_name}), a {kind}'s card was asked for")


def _card(facts: CardFacts, *, pipeline_tag: str, library_name: str, tags: list[str]) -> ModelCard:
    results = _results(facts)
    datasets = list(dict.fromkeys([*([facts.dataset_id] if facts.dataset_id else []), *facts.dataset_sources]))
    data = ModelCardData(
        license=facts.licence,
        library_name=library_name,
        pipeline_tag=pipeline_tag,
        tags=tags,
        datasets=datasets or None,
        metrics=["accuracy"] if results else None,
        model_name=facts.model_name if results else None,
        eval_results=results or None,
    )
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(percent=_percent, cell=_cell, duration=_duration)
    baseline = next((row for row in facts.scores if row.role == "baseline"), None)
    body = environment.get_template(f"{facts.kind}.md.j2").render(
        facts=facts,
        baseline=baseline,
        place=facts.repo_id or _PLACE,
        timm_place=f"hf-hub:{facts.repo_id}" if facts.repo_id else f"local-dir:{_PLACE}",
    )
    # Sections that were left out leave several empty lines behind.
    body = re.sub(r"\n{3,}", "\n\n", body).strip()
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n")


def _results(facts: CardFacts) -> list[EvalResult]:
    own = [row for row in facts.scores if row.role == "model"]
    slug = re.sub(r"[^a-z0-9]+", "-", facts.dataset_name.lower()).strip("-")
    common = {
        "task_type": "image-classification",
        "task_name": "Image Classification",
        "dataset_type": facts.dataset_id or slug,
        "dataset_name": facts.dataset_name,
        "dataset_split": facts.split,
        "metric_type": "accuracy",
    }
    results = []
    for row in own:
        # The name tells the values apart: one model is measured with one crop, ten crops, kNN, ...
        which = f" ({row.name})" if len(own) > 1 else ""
        results.append(EvalResult(**common, metric_name=f"Top-1 accuracy{which}", metric_value=row.top1))
        if row.top5 is not None:
            results.append(EvalResult(**common, metric_name=f"Top-5 accuracy{which}", metric_value=row.top5))
    return results


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.1f}"


def _cell(value: object) -> str:
    """Text that may stand in a Markdown table."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
