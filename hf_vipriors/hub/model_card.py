"""The README.md beside a model: rendered from what was measured, never typed, and never more than was measured.

Why ``library_name: transformers`` for the student. The folder is a ``TimmWrapperForImageClassification`` checkpoint,
saved in transformers' layout, so the Hub reads its ``config.json`` as a transformers model and shows the
``pipeline()`` snippet and the image-classification widget. transformers itself pushes such models with this library
name and adds the tag ``timm`` (its pull request 35794), whereupon the Hub shows the snippets of both libraries; we do
the same. The teacher's class lives in this package, so its card names ``hf_vipriors``: with "transformers" the Hub
would offer a snippet that cannot run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from ..files import file_stem
from ..markup import markdown, visible
from .card_facts import CardFacts, is_edited, read_facts

TEMPLATES = Path(__file__).parent / "templates"
PLACE = "path/to/this/folder"
# Task, library and topic by the kind of model.
_KINDS = {
    "student": ("image-classification", "transformers", "knowledge-distillation"),
    "teacher": ("image-feature-extraction", "hf_vipriors", "self-supervised-learning"),
}


def model_card(facts: CardFacts) -> ModelCard:
    """The card of a classifier exported by :func:`hf_vipriors.hub.native_export.export_native`, or of a teacher.

    Returns:
        A ``huggingface_hub.ModelCard``; ``card.save(folder / "README.md")`` writes it.

    Example:
        >>> facts = CardFacts("my-student", "student", "resnet18", 64, ["cat", "dog"], "pets", "overhaul")
        >>> model_card(facts).data.pipeline_tag
        'image-classification'
    """
    results = _results(facts)
    task, library, topic = _KINDS[facts.kind]
    datasets = list(dict.fromkeys([*([facts.dataset_id] if facts.dataset_id else []), *facts.dataset_sources]))
    data = ModelCardData(
        license=facts.licence,
        library_name=library,
        pipeline_tag=task,
        # The Hub shows what the last one names beside the model, under "Training metrics".
        tags=[task, "timm", "vipriors", "few-images", topic]
        + (["trackio", f"trackio:{facts.dashboard}"] if facts.dashboard else []),
        datasets=datasets or None,
        metrics=["accuracy"] if results else None,
        base_model=facts.base_models or None,
        model_name=visible(facts.model_name) if results else None,
        eval_results=results or None,
        **_optional_metadata(facts),
    )
    body = render(
        f"{facts.kind}.md.j2",
        facts=facts,
        baseline=next((row for row in facts.scores if row.role == "baseline"), None),
        place=facts.repo_id or PLACE,
        timm_place=f"hf-hub:{facts.repo_id}" if facts.repo_id else f"local-dir:{PLACE}",
    )
    # Sections that were left out leave several empty lines behind.
    body = re.sub(r"\n{3,}", "\n\n", body)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n")


def why_kept(card: str, directory: Path) -> str | None:
    """Why a README.md is not to be replaced; None: it is as it was rendered from the ``card.json`` beside it.

    Raises:
        InputError: the ``card.json`` is damaged.
    """
    known = read_facts(directory)
    if known is None:
        return "there is no card.json from which it could have been rendered"
    edited = is_edited(card, directory)
    if edited is None and card != str(model_card(known)):
        return "an earlier version wrote it, or it was edited by hand"
    return "it was edited by hand" if edited else None


def render(template: str, **values: Any) -> str:
    """A text from ``templates/``; names that people gave go through ``markdown``, in code through ``literal``.

    HTML is escaped by itself.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(percent=_percent, markdown=markdown, duration=_duration, literal=_literal)
    return environment.get_template(template).render(values).strip()


def _literal(text: str) -> str:
    """A text as Python writes it, in double quotes; also letters that JSON would write as two."""
    return json.dumps(text, ensure_ascii=False)


def _optional_metadata(facts: CardFacts) -> dict[str, Any]:
    """Metadata of the Hub for which ``ModelCardData`` has no argument of its own."""
    found: dict[str, Any] = {}
    if facts.examples:
        # Paths inside the repository hold for every revision, and on every Hub.
        found["widget"] = [{"src": path, "example_title": visible(title)} for path, title in facts.examples.items()]
    if facts.emissions is not None:
        found["co2_eq_emissions"] = {"emissions": facts.emissions, "source": "CodeCarbon", "training_type": "training"}
        if facts.hardware:
            found["co2_eq_emissions"]["hardware_used"] = facts.hardware
    return found


def _results(facts: CardFacts) -> list[EvalResult]:
    own = [row for row in facts.scores if row.role == "model"]
    common = {
        "task_type": "image-classification",
        "task_name": "Image Classification",
        "dataset_type": facts.dataset_id or file_stem(facts.dataset_name),
        "dataset_name": visible(facts.dataset_name),
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


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
