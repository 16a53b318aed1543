"""What a run knows of its model, gathered for the card that lies beside it."""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch

from ..backbones import is_ours
from ..data import FASHION_VIPRIORS, ImageSplits
from ..hub.card_facts import CardFacts, ScoreRow, write_facts
from ..hub.embedded import FASHION_TEACHER
from ..hub.import_checkpoint import SUFFIXES
from ..hub.model_card import student_card, teacher_card
from ..hub.teachers import TIMM_PREFIXES
from ..models import VipriorsForImageClassification, VipriorsModel
from ..training import DataArguments, PretrainArguments, StudentArguments, TeacherArguments
from . import wiring
from .papers import PAPERS

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
    "crop_scale",
)
CLASSIFIER = ("ema_decay", "auto_augment", "student_init", "layer_decay")
LABELS = ("label_smoothing", "mixup", "cutmix", "class_weights", *CLASSIFIER)
ANSWERS = ("classification_weight", "kd_weight", "kd_temperature", "unlabelled_ratio")
# What each method reads: a card says nothing of options that had no effect.
SETTINGS = {
    "moco": ("temperature", "margin", "queue_length", "encoder_momentum"),
    "simclr": ("temperature", "margin"),
    "seed": ("temperature", "teacher_temperature", "queue_length", "patches", "patch_size", "patch_scale"),
    "dogo": (
        "contrast", "peer_backbone", "peer_backbone_args", "peer_learning_rate", "mutual_weight",
        "peer_mutual_weight", "mutual_temperature", "mutual_reduction",
    ),
    "supervised": LABELS,
    "fixmatch": ("unlabelled_ratio", "consistency_weight", "confidence", *LABELS),
    "overhaul": ("feature_weight", "distil_from_epoch", *ANSWERS, *LABELS),
    "kd": (*ANSWERS, *LABELS),
    "fitnet": ("hint_weight", "hint_stage", *ANSWERS, *LABELS),
    "crd": (
        "contrast_weight", "contrast_dim", "contrast_temperature", "negatives", "memory_momentum", *ANSWERS, *LABELS,
    ),
    "sskd": (
        "transfer_weight", "similarity_weight", "similarity_temperature", "keep_transfer", "keep_similarity",
        "head_epochs", "head_learning_rate", *ANSWERS, *CLASSIFIER,
    ),
}  # fmt: skip


def settings_read(args: TeacherArguments | StudentArguments) -> tuple[str, ...]:
    """Names of the options that had an effect."""
    names = (*COMMON_SETTINGS, *SETTINGS[args.method])
    if args.max_steps > 0:
        names = ("max_steps", *(name for name in names if name != "num_train_epochs"))
    if isinstance(args, PretrainArguments):
        if args.method == "dogo":
            return (*names, *SETTINGS[args.contrast])
        return tuple(name for name in names if args.patches or not name.startswith("patch"))
    if isinstance(args, StudentArguments):
        idle = () if args.kd_weight else ("kd_weight", "kd_temperature")
        idle += () if args.unlabelled_ratio else ("unlabelled_ratio",)
        return tuple(name for name in names if name not in idle)
    return names


def common_facts(
    data: DataArguments, args: TeacherArguments | StudentArguments, splits: ImageSplits, metrics: dict[str, Any]
) -> dict[str, Any]:
    """What every card says: data, settings, time, versions, what the guards said."""
    ours = data.dataset_name == FASHION_VIPRIORS
    name = "Fashion-VIPriors" if ours else dataset_title(data)
    per_class = data.images_per_class or (50 if ours else None)
    what = [f"{per_class} labelled images per class"] if per_class is not None else []
    what += protocol_words(data)
    if what:
        name += f" ({', '.join(what)})"
    settings = args.to_dict()
    local = ours or data.dataset_name in ("imagefolder", "parquet") or Path(data.dataset_name).exists()
    return {
        "class_names": splits.class_names,
        "dataset_name": name,
        "dataset_id": None if local else data.dataset_name,
        "dataset_sources": ["zalando-datasets/fashion_mnist"] if ours else [],
        "dataset_licence": "MIT" if ours else None,
        "dataset_counts": {
            split: len(dataset)
            for split, dataset in splits.splits.items()
            if not (split == "test" and splits.test_is_validation)
        },
        "split": "validation" if splits.test_is_validation else "test",
        "interval_note": f"95 % Wilson interval on the {'validation' if splits.test_is_validation else 'test'} images",
        "settings": {key: settings[key] for key in settings_read(args) if settings.get(key) not in (None, [], {})},
        "seconds": metrics.get("seconds"),
        "emissions": emissions(Path(args.output_dir)),
        "hardware": hardware(),
        "versions": wiring.versions(),
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
    """A Hub id as it is; of a folder or file only its name, not where it lies."""
    return Path(teacher).resolve().name if Path(teacher).exists() else teacher


def base_models(names: Sequence[str]) -> list[str]:
    """Of the models a run came from those that the Hub has, by the ids it links them with.

    Example:
        >>> base_models(["fashion-vipriors-teacher", "timm:resnet18.a1_in1k", "facebook/dinov2-small", "moco.pth.tar"])
        ['timm/resnet18.a1_in1k', 'facebook/dinov2-small']
    """
    found = []
    for name in names:
        if name == FASHION_TEACHER or Path(name).exists() or name.endswith(SUFFIXES):
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


def teacher_facts(
    teacher: VipriorsModel, data: DataArguments, args: TeacherArguments, splits: ImageSplits, metrics: dict[str, Any]
) -> CardFacts:
    scores = []
    if "knn" in metrics:
        k = args.knn_neighbours
        scores = [
            score_row("weighted kNN", metrics["knn"], "model", f"frozen features, {k} neighbours, temperature 0.07"),
            score_row("linear probe", metrics["linear"], "model", "logistic regression on frozen features"),
        ]
    return CardFacts(
        model_name=Path(args.output_dir).resolve().name,
        kind="teacher",
        backbone=teacher.config.backbone,
        image_size=teacher.config.image_size,
        method=args.method,
        scores=scores,
        params=parameters(teacher),
        own_architecture=is_ours(teacher.config.backbone),
        teacher=[teacher_name(args.teacher)] if isinstance(args, PretrainArguments) and args.teacher else [],
        base_models=base_models([args.teacher]) if isinstance(args, PretrainArguments) and args.teacher else [],
        papers=PAPERS[args.method],
        **common_facts(data, args, splits, metrics),
    )


def student_facts(
    student: VipriorsForImageClassification,
    data: DataArguments,
    args: StudentArguments,
    splits: ImageSplits,
    metrics: dict[str, Any],
) -> CardFacts:
    common = common_facts(data, args, splits, metrics)
    if "search" in metrics:
        common["settings"]["settings chosen on validation, of trials"] = metrics["search"]["trials"]
    return CardFacts(
        model_name=Path(args.output_dir).resolve().name,
        kind="student",
        backbone=student.config.backbone,
        image_size=student.config.image_size,
        method=args.method,
        scores=[score_row("one centre crop", metrics["test"], "model")],
        params=parameters(student),
        own_architecture=is_ours(student.config.backbone),
        per_class=metrics["test"]["per_class"],
        teacher=[teacher_name(name) for name in (args.teacher, *args.more_teachers) if name],
        base_models=base_models([name for name in (args.teacher, *args.more_teachers) if name]),
        papers=PAPERS[args.method],
        **common,
    )


def write_card(facts: CardFacts, directory: Path) -> None:
    """README.md beside the model, and what it is rendered from."""
    write_facts(facts, directory)
    card = teacher_card(facts) if facts.kind == "teacher" else student_card(facts)
    card.save(directory / "README.md")
