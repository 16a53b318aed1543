"""What the jobs share: data to stores, teachers from folders, a run's folder claimed and described."""

from __future__ import annotations

import json
import logging
import math
import platform
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import transformers
from datasets import Dataset
from transformers.trainer_utils import get_last_checkpoint

from ..data import ImageSplits, ResizeCrop, apply_protocol, build_store, load_splits, train_geometry
from ..errors import InputError
from ..hub.native_export import load_native
from ..models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from ..training import DataArguments, RunArguments, guard_output_dir

logger = logging.getLogger(__name__)
RUN_FILE = "run.json"
OURS = (
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "README.md",
    "metrics.json",
    "trainer_state.json",
)
TEN_CROP_PCT = 0.875


def load_data(data: DataArguments) -> ImageSplits:
    """The splits a run may use; every decision on the way is logged."""
    found = load_splits(
        data.dataset_name,
        config_name=data.dataset_config,
        data_dir=data.data_dir,
        revision=data.dataset_revision,
        image_column=data.image_column,
        label_column=data.label_column,
    )
    splits = apply_protocol(
        found, images_per_class=data.images_per_class, subset_seed=data.subset_seed, unlabelled=data.unlabelled
    )
    for note in splits.notes:
        logger.info(note)
    return splits


def evaluation_store(dataset: Dataset, config: VipriorsConfig, data: DataArguments, name: str):
    """Images exactly as the exported model's own preprocessing crops them."""
    geometry = ResizeCrop(math.floor(config.image_size / config.crop_pct), config.image_size, config.interpolation)
    return build_store(dataset, geometry, on_bad_image=data.on_bad_image, memory_share=data.memory_share, name=name)


def ten_crop_store(dataset: Dataset, config: VipriorsConfig, data: DataArguments, name: str):
    """Images larger than a crop by 1 / 0.875, for the ten crops to differ."""
    side = math.floor(config.image_size / TEN_CROP_PCT)
    geometry = ResizeCrop(side, side, config.interpolation)
    return build_store(dataset, geometry, on_bad_image=data.on_bad_image, memory_share=data.memory_share, name=name)


def training_store(datasets: list[Dataset], config: VipriorsConfig, data: DataArguments):
    """Square images a little larger than a view, never larger than the originals."""
    geometry = train_geometry(datasets, config.image_size, config.interpolation)
    return build_store(
        datasets, geometry, on_bad_image=data.on_bad_image, memory_share=data.memory_share, name="train"
    )


def load_teacher(directory: str) -> VipriorsModel | VipriorsForImageClassification:
    """A teacher of ours, or a student of ours that is to teach.

    Raises:
        InputError: when the folder is missing or holds neither.
    """
    folder = Path(directory)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"no teacher in {directory} (--teacher): give the --output_dir of a finished scripts/train_teacher.py"
        )
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        raise InputError(
            f"{folder / 'config.json'} is damaged (--teacher): train or download the teacher again"
        ) from None
    if kind != VipriorsConfig.model_type:
        return load_native(directory)
    if not (folder / "model.safetensors").is_file():
        raise InputError(f"{directory} (--teacher) holds a config but no model.safetensors: is the run finished?")
    try:
        return VipriorsModel.from_pretrained(directory)
    except Exception as error:  # safetensors, JSON and shape errors alike mean one thing to the user
        raise InputError(f"the teacher in {directory} cannot be read: {' '.join(str(error).split())[:300]}") from None


def check_batch(args: RunArguments, images: int) -> None:
    """A batch larger than the data set would never be full: with drop_last not one step would run."""
    if args.train_batch_size * args.world_size > images:
        raise InputError(
            f"a batch of {args.train_batch_size * args.world_size} is larger than the data set ({images} images): set "
            f"--per_device_train_batch_size to {max(1, images // (2 * args.world_size))} or less"
        )


def resume_point(args: RunArguments) -> str | None:
    """The checkpoint to go on from: 'true' or 'latest' for the newest in the output folder, or a folder.

    Raises:
        InputError: when there is none.
    """
    wish = args.resume_from_checkpoint
    if wish is None or str(wish).lower() in ("false", "no"):
        return None
    if str(wish).lower() in ("true", "latest", "yes"):
        found = get_last_checkpoint(args.output_dir) if Path(args.output_dir).is_dir() else None
        if found is None:
            raise InputError(f"nothing to resume: {args.output_dir} holds no checkpoint-N folder")
        return found
    if not Path(wish).is_dir():
        raise InputError(f"no such checkpoint folder {wish} (--resume_from_checkpoint)")
    return str(wish)


def check_output_dir(args: RunArguments) -> None:
    guard_output_dir(
        args.output_dir, overwrite=args.overwrite_output_dir, resume=args.resume_from_checkpoint is not None
    )


def claim_output_dir(args: RunArguments, data: DataArguments, command: str) -> None:
    """Write what is about to run into the output folder, after clearing the run it replaces (main process only).

    Of an old run only files that runs write are removed; anything else in the folder stays.
    """
    if not args.should_save:
        return
    folder = Path(args.output_dir)
    if args.overwrite_output_dir and args.resume_from_checkpoint is None and folder.is_dir():
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        for name in (*OURS, RUN_FILE):
            (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"command": command, "data": asdict(data), "arguments": args.to_dict(), "versions": versions()}
    write_json(folder / RUN_FILE, settings)


def versions() -> dict[str, str]:
    """Versions of what decides a number."""
    names = ("hf-vipriors", "torch", "transformers", "accelerate", "timm", "kornia", "datasets")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all: written beside, then renamed."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")
    beside.replace(path)


def settle_seed(args: RunArguments) -> None:
    """Seed before the model is built: its random start is part of the run."""
    if args.full_determinism:
        transformers.enable_full_determinism(args.seed)
    else:
        transformers.set_seed(args.seed)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
