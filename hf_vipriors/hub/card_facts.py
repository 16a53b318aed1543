"""What is known of a model, kept beside it as ``card.json``, from which its card is rendered, again when pushed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import xxhash

from ..errors import InputError, one_line
from ..files import read_json, write_json
from ..papers import Paper

FACTS_FILE = "card.json"
_SUM = "card_sum"


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
        if self.interval is not None:  # JSON gives a list back
            object.__setattr__(self, "interval", tuple(self.interval))
        if not all(0 <= value <= 1 for value in (self.top1, 0.0 if self.top5 is None else self.top5)):
            raise ValueError(f"{self.name}: accuracies are fractions within 0 and 1, got {self.top1}, {self.top5}")
        if self.interval is not None and not self.interval[0] <= self.top1 <= self.interval[1]:
            raise ValueError(f"{self.name}: {self.top1} lies outside its interval {self.interval}")
        if self.role not in ("model", "baseline", "other"):
            raise ValueError(f"{self.name}: role must be 'model', 'baseline' or 'other', got {self.role!r}")


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
        full_scale: the value of gray images of more than 8 bits that was scaled to 255; None: there were none.
        dataset_id: the id on the Hub of the very data set that was measured on, if it has one.
        dataset_sources: Hub ids of data sets the images were taken from; listed, but no result is claimed on them.
        split: which split the scores are of; "validation" where no independent test exists, which the card then says.
        dataset_licence: licence of the images; dataset_counts: split -> number of images.
        per_class: class -> accuracy (None: no image of the class).
        seconds: training time; hardware: what it ran on.
        versions: library -> version.
        fingerprint: what decided the run -> a short sum of it.
        warnings: what the guards said while it trained, a line each.
        teacher: the models this one came from, nearest first.
        papers: whose methods were used.
        native: the folder ``native`` in the model's own holds its backbone for other programs.
        own_architecture: timm knows the backbone only once hf_vipriors is imported: the snippets do so, and no widget
            can run it.
        licence: of the weights (a Hub licence id); repo_id: where it will be pushed, for the snippets.
        base_models: Hub ids of the models it came from.
        examples: path in the repository -> title, of images that the widget offers.
        curves: path in the repository of an image of the training curves, or None.
        notebook: path in the repository of a notebook that tries the model, or None.
        emissions: grams of CO2 equivalent that CodeCarbon measured, or None.
        dashboard: address of the curves that trackio keeps on the Hub, or None.
        onnx: "float32" and "int8" -> ``top1`` (a fraction, or None), ``size`` (bytes), ``milliseconds`` (an image).
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
    full_scale: float | None = None
    dataset_id: str | None = None
    dataset_sources: list[str] = field(default_factory=list)
    dataset_licence: str | None = None
    split: str = "test"
    dataset_counts: dict[str, int] = field(default_factory=dict)
    per_class: dict[str, float | None] = field(default_factory=dict)
    seconds: float | None = None
    hardware: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    fingerprint: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    teacher: list[str] = field(default_factory=list)
    papers: list[Paper] = field(default_factory=list)
    native: bool = False
    own_architecture: bool = False
    licence: str | None = None
    repo_id: str | None = None
    base_models: list[str] = field(default_factory=list)
    examples: dict[str, str] = field(default_factory=dict)
    curves: str | None = None
    notebook: str | None = None
    emissions: float | None = None
    dashboard: str | None = None
    onnx: dict[str, dict[str, float | None]] = field(default_factory=dict)


def write_facts(facts: CardFacts, directory: Path, card: str) -> None:
    """Keep ``facts`` as ``card.json``, so that the card can be rendered again with what is only known later.

    A sum of ``card``, the text rendered from them, is kept too: :func:`is_edited` compares with it.
    """
    write_json(directory / FACTS_FILE, asdict(facts) | {_SUM: _sum(card)})


def is_edited(card: str, directory: Path) -> bool | None:
    """Whether ``card`` is not what was rendered when ``card.json`` was written; None: an earlier version wrote it."""
    kept = read_json(directory / FACTS_FILE).get(_SUM)
    return None if kept is None else kept != _sum(card)


def _sum(card: str) -> str:
    return xxhash.xxh3_64_hexdigest(card.encode())


def read_facts(directory: Path) -> CardFacts | None:
    """What :func:`write_facts` kept; None where there is none.

    Raises:
        InputError: the file is damaged.

    Example:
        >>> import tempfile
        >>> facts = CardFacts("my-student", "student", "resnet18", 64, ["cat", "dog"], "pets", "overhaul")
        >>> facts.scores = [ScoreRow("one crop", 0.75, (0.7, 0.8))]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_facts(facts, Path(folder), card="# my-student")
        ...     read_facts(Path(folder)) == facts
        True
    """
    file = directory / FACTS_FILE
    if not file.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        known = {each.name for each in fields(CardFacts)}
        found = {name: value for name, value in found.items() if name in known}
        found["scores"] = [ScoreRow(**row) for row in found.get("scores", [])]
        found["papers"] = [Paper(**paper) for paper in found.get("papers", [])]
        return CardFacts(**found)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{file} is damaged ({one_line(error)}): remove it, and README.md goes to the Hub as it is"
        ) from None
