"""What a run knows of its model, gathered for the card that lies beside it."""

from __future__ import annotations

import csv
import logging
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from transformers import PreTrainedModel

from ..backbones import is_ours
from ..data import FASHION_VIPRIORS
from ..evaluation.without_duplicates import WITHOUT, without
from ..hub.card_facts import CardFacts, ScoreRow, write_facts
from ..hub.embedded import FASHION_TEACHER
from ..hub.import_checkpoint import SUFFIXES
from ..hub.model_card import model_card, why_kept
from ..hub.repository_files import CARD
from ..hub.teachers import TIMM_PREFIXES
from ..methods import METHODS
from ..papers import HARMONIC
from .arguments import RunArguments
from .data_arguments import DataArguments
from .run_files import versions
from .setup import Setup

logger = logging.getLogger(__name__)
COMMON_SETTINGS = (
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "optim",
    "weight_decay",
    "lr_scheduler_type",
    "lr_milestones",
    "warmup_steps",
    "seed",
    "bf16",
)


def settings_read(args: RunArguments) -> tuple[str, ...]:
    """Names of the options that had an effect.

    Args:
        args: complete.
    """
    method = METHODS[args.method]
    names = (*COMMON_SETTINGS, *method.options_read(args))
    if args.max_steps > 0:
        names = ("max_steps", *(name for name in names if name != "num_train_epochs"))
    return names


def common_facts(setup: Setup, metrics: dict[str, Any]) -> dict[str, Any]:
    """What every card says: data, settings, time, versions, what the guards said."""
    data, args, splits = setup.data, setup.args, setup.splits
    ours = setup.title is None and data.dataset_name == FASHION_VIPRIORS
    name = setup.title or ("Fashion-VIPriors" if ours else dataset_title(data))
    per_class = data.images_per_class or (50 if ours else None)
    what = [f"{per_class} labelled images per class"] if per_class is not None else []
    if data.choose_with is not None:
        teacher = teacher_name(data.choose_with)
        what = [f"{len(splits.splits['train'])} labelled images, the most typical ones to {teacher}"]
    what += protocol_words(data)
    if what:
        name += f" ({', '.join(what)})"
    settings = args.to_dict()
    split = metrics.get("split") or splits.test_title
    local = (
        ours
        or setup.title is not None
        or data.dataset_name in ("imagefolder", "parquet")
        or Path(data.dataset_name).exists()
    )
    return {
        "class_names": splits.class_names,
        "dataset_name": name,
        "dataset_id": None if local else data.dataset_name,
        "dataset_sources": ["zalando-datasets/fashion_mnist"] if ours else [],
        "dataset_licence": "MIT" if ours else None,
        "dataset_counts": {split: len(images) for split, images in splits.distinct.items()},
        "split": split,
        "interval_note": f"95 % Wilson interval on the {split} images",
        "settings": {key: settings[key] for key in settings_read(args) if settings.get(key) not in (None, [], {})},
        "seconds": metrics.get("seconds"),
        "emissions": emissions(Path(args.output_dir)),
        "dashboard": dashboard(setup),
        "hardware": hardware(),
        "versions": versions(),
        "fingerprint": metrics.get("fingerprint", {}),
        "warnings": warning_lines(metrics),
    }


def warning_lines(metrics: dict[str, Any]) -> list[str]:
    """What the guards said, with its step; none of a run that had no guards."""
    return [f"at step {each['step']}: {each['text']}" for each in metrics.get("warnings", [])]


def protocol_words(data: DataArguments) -> list[str]:
    """What was done to the train split: a model of wrong labels must not read as one of right ones."""
    words = []
    if data.imbalance > 1:
        words.append(f"imbalance {data.imbalance:g}")
    if data.train_fraction < 1:
        words.append(f"{data.train_fraction:.0%} of them")
    if data.label_noise:
        words.append(f"{data.label_noise:.0%} of the labels wrong, {data.noise_kind}")
    return words


def dataset_title(data: DataArguments) -> str:
    """The data set in plain words; of a local folder only its name, not where it lies."""
    place = data.data_dir or data.dataset_name
    return Path(place).resolve().name if Path(place).exists() else data.dataset_name


def teacher_name(teacher: str) -> str:
    """A Hub id as it is; of a folder or file only its name, not where it lies or lay."""
    return Path(teacher).resolve().name if is_local(teacher) else teacher


def is_local(name: str) -> bool:
    """Whether a network is a folder or file of this machine, or was one: an id of the Hub has one slash at most."""
    far = "://" not in name and name.count("/") > 1
    return Path(name).is_absolute() or far or name.startswith((".", "~")) or Path(name).exists()


def base_models(names: Sequence[str]) -> list[str]:
    """Of the models a run came from those that the Hub has, by the ids it links them with.

    Example:
        >>> base_models(["fashion-vipriors-teacher", "timm:resnet18.a1_in1k", "facebook/dinov2-small", "moco.pth.tar"])
        ['timm/resnet18.a1_in1k', 'facebook/dinov2-small']
    """
    found = []
    for name in names:
        if name == FASHION_TEACHER or is_local(name) or name.endswith(SUFFIXES):
            continue
        prefix = next((prefix for prefix in TIMM_PREFIXES if name.startswith(prefix)), None)
        known = timm.get_pretrained_cfg(name.removeprefix(prefix)) if prefix else None
        found.append(known.hf_hub_id if known is not None and known.hf_hub_id else name)
    return found


def emissions(directory: Path) -> float | None:
    """Grams of CO2 equivalent that ``--report_to codecarbon`` measured last; None where it did not."""
    file = directory / "emissions.csv"
    if not file.is_file():
        return None
    with file.open(newline="", encoding="utf-8") as rows:
        last = list(csv.DictReader(rows))[-1:]
    return 1000 * float(last[0]["emissions"]) if last else None


def dashboard(setup: Setup) -> str | None:
    """Address of the Space where trackio keeps the curves of a run; None where they stay on this machine.

    ``TrackioCallback`` tags the model that it watches with the lasting copy that it makes at the end; where it made
    none, the live Space is named.
    """
    tags = vars(setup.method).get("model_tags") or []
    space = setup.args.trackio_space_id or ""
    live = [f"https://huggingface.co/spaces/{space}"] if "/" in space else []
    return next(iter([tag.removeprefix("trackio:") for tag in tags if tag.startswith("trackio:")] + live), None)


def hardware() -> str:
    """The accelerator's name, or on how many cores a run computes: as many as it has threads, which may not be all."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cores = torch.get_num_threads() * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return f"{cores} CPU core{'s' * (cores != 1)} ({platform.machine()})"


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def score_row(name: str, score: dict[str, Any], role: str, note: str = "") -> ScoreRow:
    """A card's row from a ``ClassificationScore`` as dict."""
    return ScoreRow(name, score["top1"], tuple(score["interval"]), score["top5"], role=role, note=note)


def result_facts(
    setup: Setup, model: PreTrainedModel, metrics: dict[str, Any], folder: Path | None = None
) -> CardFacts:
    """What a run knows of its model.

    Args:
        setup: of the run.
        model: that the card is of.
        metrics: as in ``metrics.json``; nothing of an accuracy where it was not measured.
        folder: of the model, where it is not the run's own.
    """
    args, method = setup.args, METHODS[setup.args.method]
    scores, per_class = [], {}
    if "knn" in metrics:
        note = f"frozen features, {args.knn_neighbours} neighbours, temperature 0.07"
        scores.append(score_row("weighted kNN", metrics["knn"], "model", note))
    if "linear" in metrics:
        scores.append(score_row("linear probe", metrics["linear"], "model", "logistic regression on frozen features"))
    if "test" in metrics:
        scores.append(score_row("one centre crop", metrics["test"], "model"))
        per_class = metrics["test"]["per_class"]
    if WITHOUT in metrics:
        count = metrics[WITHOUT]["count"]
        scores.append(
            score_row(
                f"one centre crop, CIFAR-10 test {without(metrics['test']['count'], count)}, {count:,} images",
                metrics[WITHOUT],
                "other",
                "those that the train split, or test itself, holds a second time [1902.00423]; this is not ciFAIR-10, "
                "which has new images in their place",
            )
        )
    common = common_facts(setup, metrics)
    if "search" in metrics:
        common["settings"]["settings chosen on validation, of trials"] = metrics["search"]["trials"]
    teachers = [] if method.teacher_kind == "none" else [args.teacher]
    teachers = [name for name in (*teachers, *(args.more_teachers if method.job == "student" else ())) if name]
    return CardFacts(
        model_name=_model_name(args, folder),
        kind="student" if method.job == "student" else "teacher",
        backbone=model.config.backbone,
        image_size=model.config.image_size,
        full_scale=model.config.full_scale,
        method=args.method,
        scores=scores,
        params=parameters(model),
        own_architecture=is_ours(model.config.backbone),
        per_class=per_class,
        teacher=[teacher_name(name) for name in teachers],
        base_models=base_models(teachers),
        papers=[*method.papers_used(args), *(HARMONIC if args.harmonic else ())],
        native=method.job == "pretrain" and folder is None,
        **common,
    )


def _model_name(args: RunArguments, folder: Path | None) -> str:
    run = Path(args.output_dir).resolve().name
    return run if folder is None else f"{run}-{folder.name}"


def write_card(facts: CardFacts, directory: Path) -> None:
    """README.md beside the model, and what it is rendered from."""
    card = model_card(facts)
    write_facts(facts, directory, str(card))
    card.save(directory / CARD)


def renew_card(facts: CardFacts, directory: Path) -> None:
    """As :func:`write_card`, but a README.md that is not as it was rendered stays: a person wrote in it."""
    file = directory / CARD
    written = file.read_text(encoding="utf-8") if file.is_file() else None
    kept = None if written is None else why_kept(written, directory)
    if kept is None:
        write_card(facts, directory)
    else:
        write_facts(facts, directory, str(model_card(facts)))
        logger.warning("%s stays as it is: %s; remove it for a new one", file, kept)
