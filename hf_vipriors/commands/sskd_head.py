"""Stage 1 of SSKD: the self-supervision head of a teacher, fitted once, kept beside the teacher, found again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..backbones import feature_dim
from ..data import ImageSplits
from ..methods import SskdPretext, self_supervision_head
from ..methods.distributed import everywhere
from ..models import VipriorsForImageClassification
from ..training import DataArguments, RunArguments, StudentArguments, StudentTrainer
from ..views import RotationViews
from .wiring import HEAD

logger = logging.getLogger(__name__)
SETTINGS = "settings"


def head_settings(
    teacher: VipriorsForImageClassification, data: DataArguments, args: StudentArguments, labels: Tensor, size: int
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
        "image_size": size,
        **{name: getattr(data, name) for name in names},
        "data_dir": data.data_dir and Path(data.data_dir).resolve().name,
        "head_epochs": args.head_epochs,
        "head_learning_rate": args.head_learning_rate,
        "crop_scale": args.crop_scale,
        "flip": args.flip,
        "auto_augment": args.auto_augment,
        "batch": args.step_images,
        "seed": args.seed,
    }


def head_file(settings: dict[str, Any], args: StudentArguments) -> Path:
    """Where the head lies: beside a teacher that is a folder of ours, else in the run's own folder."""
    name = f"{HEAD}-{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]}.safetensors"
    folder = Path(args.teacher)
    beside = folder.is_dir() and os.access(folder, os.W_OK)
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


def fit_head(
    teacher: VipriorsForImageClassification,
    head: nn.Module,
    store: Dataset,
    data: DataArguments,
    args: StudentArguments,
    splits: ImageSplits,
    size: int,
) -> None:
    """Fill ``head``: from an earlier run of the same teacher and data, or by training it on the frozen teacher."""
    settings = head_settings(teacher, data, args, store.labels, size)
    file = head_file(settings, args)
    if everywhere(read_head(file, settings, head), args.device):
        logger.info("self-supervision head of the teacher: found in %s", file)
        return
    logger.info("self-supervision head of the teacher: %g epochs on the frozen backbone", args.head_epochs)
    options = {"crop_scale": args.crop_scale, "flip": args.flip, "auto_augment": args.auto_augment}
    trainer = StudentTrainer(
        SskdPretext(teacher, head),
        head_arguments(args, str(file.parent)),
        train_store=store,
        views=RotationViews(size, teacher.config.image_mean, teacher.config.image_std, **options),
        evaluation_store=None,
        class_names=splits.class_names,
    )
    trainer.train()
    head.requires_grad_(False).eval()
    if args.should_save:
        part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
        save_file(head.state_dict(), part, metadata={SETTINGS: json.dumps(settings)})
        os.replace(part, file)
        logger.info("self-supervision head saved to %s", file)
    trainer.accelerator.wait_for_everyone()


def head_arguments(args: StudentArguments, folder: str) -> RunArguments:
    """SGD with the published schedule [2006.07114], nothing saved on the way; devices and batches as the run's."""
    return RunArguments(
        output_dir=folder,
        num_train_epochs=args.head_epochs,
        learning_rate=args.head_learning_rate,
        lr_milestones=[args.head_epochs / 2, args.head_epochs * 3 / 4],
        optim="sgd",
        weight_decay=5e-4,
        decay_norm_and_bias=True,
        warmup_steps=0,
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        per_device_train_batch_size=args.per_device_train_batch_size,
        dataloader_drop_last=args.dataloader_drop_last,
        dataloader_num_workers=args.dataloader_num_workers,
        disable_tqdm=args.disable_tqdm,
        seed=args.seed,
        bf16=args.bf16,
        fp16=args.fp16,
        use_cpu=args.use_cpu,
        guards=False,  # the run itself says what there is to say of the images
    )


def new_head(teacher: VipriorsForImageClassification) -> nn.Sequential:
    """A head with a random start of its own, so that whether one is found or fitted changes nothing else."""
    with torch.random.fork_rng(devices=[]):
        return self_supervision_head(feature_dim(teacher.backbone))
