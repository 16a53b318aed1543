"""What the jobs share: data to stores, a run's folder claimed and described."""

from __future__ import annotations

import functools
import json
import logging
import math
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import transformers
from datasets import Dataset
from transformers import PreTrainedModel

from ..data import (
    ImageSplits,
    ImageStore,
    PairedStore,
    ResizeCrop,
    StreamedStore,
    apply_protocol,
    build_store,
    load_splits,
    train_geometry,
)
from ..errors import InputError
from ..evaluation.answers import ANSWERS_FILE
from ..hub.card_facts import FACTS_FILE
from ..methods import Method
from ..models import VipriorsConfig
from ..training import DataArguments, MethodTrainer, RunArguments, guard_output_dir
from ..training.checkpoints import STAGING, damage, newest_checkpoint, read_method_state
from ..training.output_folder import lock_folder, locked_folders, unlock_folders

logger = logging.getLogger(__name__)
RUN_FILE = "run.json"
SEARCH_FILE = "search.json"
OURS = (
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "README.md",
    FACTS_FILE,
    "metrics.json",
    "trainer_state.json",
    ANSWERS_FILE,
    SEARCH_FILE,
)
# Folders inside a run's own: the backbone for other programs, the other of two peers.
PARTS = ("native", "peer")
# A teacher's self-supervision head lies beside it, with what it was fitted on in its name.
HEAD = "sskd_head"
TEN_CROP_PCT = 0.875
P, R = ParamSpec("P"), TypeVar("R")


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
        found,
        images_per_class=data.images_per_class,
        subset_seed=data.subset_seed,
        unlabelled=data.unlabelled,
        validation_share=data.validation_share,
        limits=data.train_protocol(),
    )
    for note in splits.notes:
        logger.info(note)
    return splits


def store_of(images: Dataset | list[Dataset], geometry: ResizeCrop, data: DataArguments, name: str, **options: bool):
    """``build_store`` with what the user said of bad images and of memory. Every process of a launch must call it."""
    return build_store(
        images,
        geometry,
        on_bad_image=data.on_bad_image,
        memory_share=data.memory_share,
        name=name,
        every_process=True,
        **options,
    )


def evaluation_store(dataset: Dataset, config: VipriorsConfig, data: DataArguments, name: str):
    """Images exactly as the exported model's own preprocessing crops them."""
    geometry = ResizeCrop(math.floor(config.image_size / config.crop_pct), config.image_size, config.interpolation)
    return store_of(dataset, geometry, data, name)


def ten_crop_store(dataset: Dataset, config: VipriorsConfig, data: DataArguments, name: str):
    """Images larger than a crop by 1 / 0.875, for the ten crops to differ."""
    side = math.floor(config.image_size / TEN_CROP_PCT)
    geometry = ResizeCrop(side, side, config.interpolation)
    return store_of(dataset, geometry, data, name)


def training_store(datasets: list[Dataset], config: VipriorsConfig, data: DataArguments):
    """Square images a little larger than a view, never larger than the originals."""
    geometry = train_geometry(datasets, config.image_size, config.interpolation)
    return store_of(datasets, geometry, data, "train", reduced=True)


def fit_workers(args: RunArguments, store: ImageStore | StreamedStore | PairedStore) -> None:
    """Let workers decode where images are streamed, as many as ``args`` say."""
    args.fit_workers(isinstance(store.store if isinstance(store, PairedStore) else store, StreamedStore))


def check_rgb(model: PreTrainedModel) -> None:
    """Views and native checkpoints have three channels; gray pictures are expanded to them."""
    if model.backbone.in_chans != 3:
        raise InputError(
            f"{model.config.backbone!r} with {model.backbone.in_chans} input channels: networks take three here, gray "
            "pictures too (leave in_chans out of --backbone_args)"
        )


def check_alone_in_batch(args: RunArguments, images: int) -> None:
    """Leave out a last batch of one image: batch norm cannot normalise a single value.

    Several processes never have one: the loader fills their last batch up with the first images of the epoch.
    """
    if args.world_size == 1 and images % args.step_images == 1 and not args.dataloader_drop_last:
        args.dataloader_drop_last = True
        logger.info("the last batch of an epoch would hold a single image: it is left out")


def resume_point(args: RunArguments) -> str | None:
    """The checkpoint to go on from: 'true' or 'latest' for the newest whole one in the output folder, or a folder.

    Raises:
        InputError: when there is none.
    """
    wish = args.resume_from_checkpoint
    if wish is None or str(wish).lower() in ("false", "no"):
        return None
    if str(wish).lower() not in ("true", "latest", "yes"):
        if not Path(wish).is_dir():
            raise InputError(f"no such checkpoint folder {wish} (--resume_from_checkpoint)")
        wrong = damage(Path(wish))
        if wrong is not None:
            raise InputError(
                f"checkpoint {wish} is not whole ({wrong}): give another, or --resume_from_checkpoint true"
            )
        return str(wish)
    return newest_checkpoint(args.output_dir)


def resumes_in_place(args: RunArguments, resume: str | None) -> bool:
    return resume is not None and Path(resume).resolve().parent == Path(args.output_dir).resolve()


def check_output_dir(args: RunArguments, resume: str | None) -> None:
    guard_output_dir(args.output_dir, overwrite=args.overwrite_output_dir, resume=resumes_in_place(args, resume))


def load_method_state(method: Method, resume: str | None) -> None:
    """Load a checkpoint's tensors before anything is written, so that one of another run is refused in time."""
    if resume is not None:
        read_method_state(method, resume)


def claim_output_dir(args: RunArguments, data: DataArguments, command: str, resume: str | None) -> None:
    """Write what is about to run into the output folder, after clearing the run it replaces (main process only).

    Of an old run only files that runs write are removed; anything else in the folder stays. The folder is locked
    until the run ends, see :func:`holding_output_dir`.

    Raises:
        InputError: another run is writing there.
    """
    if not args.should_save:
        return
    folder = Path(args.output_dir)
    lock_folder(args.output_dir)
    if args.overwrite_output_dir and not resumes_in_place(args, resume) and folder.is_dir():
        for checkpoint in (*folder.glob("checkpoint-*"), *folder.glob(STAGING)):
            shutil.rmtree(checkpoint)
        for part in (folder, *(folder / name for name in PARTS)):
            for name in (*OURS, RUN_FILE):
                (part / name).unlink(missing_ok=True)
        for part in (folder / name for name in PARTS):
            if part.is_dir() and not any(part.iterdir()):
                part.rmdir()
        for head in folder.glob(f"{HEAD}-*.safetensors"):
            head.unlink()
    settings = {"command": command, "data": asdict(data), "arguments": args.to_dict(), "versions": versions()}
    write_json(folder / RUN_FILE, settings)


def holding_output_dir(run: Callable[P, R]) -> Callable[P, R]:
    """For a function that is a whole run: when it ends, the folder it claimed is free again."""

    @functools.wraps(run)
    def held(*args: P.args, **options: P.kwargs) -> R:
        before = locked_folders()
        try:
            return run(*args, **options)
        finally:
            unlock_folders(locked_folders() - before)

    return held


def training_seconds(trainer: MethodTrainer, resume: str | None) -> float | None:
    """Wall time of the training; not known of a run that was resumed."""
    return None if resume is not None else trainer.state.log_history[-1].get("train_runtime")


def versions() -> dict[str, str]:
    """Versions of what decides a number."""
    names = ("hf-vipriors", "torch", "transformers", "accelerate", "timm", "kornia", "numba", "datasets")
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
    """What a run wrote.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())}") from None
