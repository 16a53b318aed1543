"""Stage 1 of SSKD: the self-supervision head of a teacher, fitted once, kept beside the teacher, found again."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ..files import replacing, save_tensors
from ..models import VipriorsForImageClassification
from .base import Method
from .distributed import everywhere

logger = logging.getLogger(__name__)
SETTINGS = "settings"
# What its files are called; the rest of a name says what a head was fitted on.
HEAD = "sskd_head"


def fit_head(pretext: Method, trainer: Any) -> None:
    """Fill the head of ``pretext``: from an earlier run of the same teacher and data, or by training it.

    Args:
        pretext: :class:`hf_vipriors.methods.SskdPretext`, whose head is filled in place.
        trainer: of the student; it trains the head on the same images.
    """
    args, teacher, head = trainer.args, pretext.deployable(), pretext.head
    settings = head_settings(teacher, trainer.setup.data, args, trainer.train_dataset.labels, trainer.setup.config)
    file = head_file(settings, args)
    if everywhere(read_head(file, settings, head), args.device):
        logger.info("self-supervision head of the teacher: found in %s", file)
        return
    logger.info("self-supervision head of the teacher: %g epochs on the frozen backbone", args.head_epochs)
    kind = type(trainer.setup.method)  # in a search the trainer has no model yet
    config = copy.copy(teacher.config)
    config.image_size = trainer.setup.config.image_size
    trainer.train_beside(pretext, kind.views(args, config), head_arguments(args, str(file.parent)))
    if args.should_save:
        with replacing(file) as part:
            save_tensors(head.state_dict(), part, {SETTINGS: json.dumps(settings)})
        logger.info("self-supervision head saved to %s", file)
    trainer.accelerator.wait_for_everyone()


def head_settings(
    teacher: VipriorsForImageClassification, data: Any, args: Any, labels: Tensor, config: Any
) -> dict[str, Any]:
    """All that decides what the head becomes; two runs that agree here share one."""
    digest = hashlib.sha256()
    for name, tensor in teacher.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    names = ("dataset_name", "dataset_config", "dataset_revision", "images_per_class", "subset_seed")
    return {
        "teacher": digest.hexdigest()[:16],
        "images": len(labels),
        "labels": hashlib.sha256(labels.numpy().tobytes()).hexdigest()[:16],
        "image_size": config.image_size,
        **{name: getattr(data, name) for name in names},
        "data_dir": data.data_dir and Path(data.data_dir).resolve().name,
        "head_epochs": args.head_epochs,
        "head_learning_rate": args.head_learning_rate,
        "crop_scale": args.crop_scale,
        "flip": args.flip,
        "auto_augment": args.auto_augment,
        # Not where they are 0 or not given: heads that were fitted before there were such options are found again.
        **({"random_shift": args.random_shift} if args.random_shift else {}),
        **{
            name: getattr(data, name) for name in ("validation_seed", "choose_with") if getattr(data, name) is not None
        },
        "batch": args.step_images,
        "seed": args.seed,
    }


def head_file(settings: dict[str, Any], args: Any) -> Path:
    """Where the head lies: beside a teacher that is a folder of ours, else in the run's own folder."""
    name = f"{HEAD}-{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]}.safetensors"
    folder = Path(args.teacher or "")
    beside = args.teacher is not None and folder.is_dir() and os.access(folder, os.W_OK)
    return (folder if beside else Path(args.output_dir)) / name


def read_head(file: Path, settings: dict[str, Any], head: nn.Module) -> bool:
    """Fill ``head`` from ``file``; False where there is none, it is damaged, or it was fitted otherwise."""
    if not file.is_file():
        return False
    try:
        with safe_open(file, "pt") as opened:
            fits = json.loads((opened.metadata() or {}).get(SETTINGS, "null")) == settings
        if fits:
            head.load_state_dict(load_file(file))
        return fits
    except (SafetensorError, RuntimeError, json.JSONDecodeError):
        logger.warning("%s is damaged: the head is fitted again", file)
        return False


def head_arguments(args: Any, folder: str) -> dict[str, Any]:
    """SGD with the published schedule [2006.07114], nothing saved on the way; devices and batches as the run's."""
    return {
        "output_dir": folder,
        "num_train_epochs": args.head_epochs,
        "max_steps": -1,
        "learning_rate": args.head_learning_rate,
        "lr_milestones": [args.head_epochs / 2, args.head_epochs * 3 / 4],
        "optim": "sgd",
        "nesterov": False,
        "weight_decay": 5e-4,
        "decay_norm_and_bias": True,
        "warmup_steps": 0,
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "load_best_model_at_end": False,
        "push_to_hub": False,
        "hub_model_id": None,
        "guards": False,  # the run itself says what there is to say of the images
    }
