"""What a benchmark trains: synthetic images, a method with random weights, and the trainer that a real run would have.

Everything is set up by the function that sets up real runs.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from ..cli.parser import Parser
from ..data import ImageSplits, ImageStore, PairedStore
from ..errors import InputError
from ..methods import METHODS, Method
from ..models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from ..training import DataArguments, MethodTrainer, RunArguments
from ..training.resolve import complete
from ..training.setup import Setup, seed_everything, set_up
from ..training.stores import Store
from ..views import VIEW_INTERPOLATION
from .arguments import ARGUMENTS, BenchmarkArguments

CLASSES = [f"class {number}" for number in range(10)]
_STORE_SHARE = 0.875  # as the training stores of real runs: a view is this share of the image


@dataclass
class Case:
    """A method that is ready to train at one image size.

    Attributes:
        setup: of the training, on synthetic images.
        teacher: where the method has one.
    """

    setup: Setup
    teacher: VipriorsModel | VipriorsForImageClassification | None = None

    @property
    def args(self) -> RunArguments:
        """Complete."""
        return self.setup.args

    @property
    def method(self) -> Method:
        return self.setup.method

    @property
    def views(self) -> nn.Module:
        return self.setup.views

    @property
    def store(self) -> Store:
        """What it trains on."""
        return self.setup.stores["train"]

    @property
    def config(self) -> VipriorsConfig:
        """Of the network that learns."""
        return self.setup.config

    @property
    def images_per_step(self) -> int:
        """Data-set images of one optimizer step over all processes, however many views each has."""
        beside = self.store.companions if isinstance(self.store, PairedStore) else 0
        return self.args.step_images * (1 + beside)


def synthetic_images(count: int, channels: int, side: int, seed: int) -> Tensor:
    """Noise, uint8 ``(count, channels, side, side)``.

    Raises:
        InputError: they would take more than half of the free memory.
    """
    needed, free = count * channels * side**2, psutil.virtual_memory().available
    if needed > free / 2:
        raise InputError(
            f"{count} images of {side} pixels take {needed / 2**30:.1f} GiB, more than half of the free memory: "
            "lower --images, --scaling or the first of --image_sizes"
        )
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, channels, side, side), generator=generator, dtype=torch.uint8)


def synthetic_store(count: int, channels: int, size: int, seed: int) -> ImageStore:
    """Labelled images with the margin around a view that real stores have."""
    images = synthetic_images(count, channels, math.floor(size / _STORE_SHARE), seed)
    return ImageStore(images, torch.arange(count) % len(CLASSES))


def build_case(request: BenchmarkArguments, size: int, images: int | None = None, *, steps: int) -> Case:
    """Everything up to the trainer, for one image size.

    Args:
        images: in the store; None: as ``request`` has it.
        steps: of the whole training.

    Raises:
        InputError: whatever the training's own command would refuse.
    """
    store: Store = synthetic_store(images or request.images, request.channels, size, request.seed)
    with tempfile.TemporaryDirectory() as folder:
        args = training_arguments(request, size, steps, Path(folder))
    seed_everything(args)  # the teacher is drawn before the set-up seeds
    teacher = random_teacher(request, size)
    ratio = complete(args).args.unlabelled_ratio if METHODS[request.method].job == "student" else 0
    if ratio:
        # As in the quickstart: many more images without labels than with.
        labels = store.labels.clone()
        labels[len(store) // (1 + ratio) :] = -1
        store = PairedStore(ImageStore(store.images, labels), ratio)
    setup = set_up(args, DataArguments(), ImageSplits({}, CLASSES), teacher=teacher, stores={"train": store})
    return Case(setup, teacher)


def training_arguments(request: BenchmarkArguments, size: int, steps: int, folder: Path) -> RunArguments:
    """The arguments of the real command: its own defaults, what is compared, nothing evaluated or saved."""
    kind = ARGUMENTS[METHODS[request.method].job]
    options: dict[str, Any] = {
        **{
            "method": request.method,
            "backbone": request.backbone,
            "backbone_args": request.backbone_args,
            "image_size": size,
        },
        **{"per_device_train_batch_size": request.batch, "bf16": request.precision == "bf16"},
        **{"fp16": request.precision == "fp16", "torch_compile": request.torch_compile, "use_cpu": request.use_cpu},
        # One log a round, which is no rarer than in a run of 50 logs.
        **{
            "max_steps": steps,
            "logging_steps": request.steps,
            "seed": request.seed,
            "output_dir": str(folder / "run"),
        },
        **{"lr_scheduler_type": "constant", "warmup_steps": 0, "dataloader_num_workers": request.workers},
        **{"eval_strategy": "no", "save_strategy": "no", "report_to": "none", "disable_tqdm": True},
    }
    if request.method == "overhaul":
        options["distil_from_epoch"] = 0  # from the first step, not after epochs of cross-entropy
    parser = Parser([kind], "")
    (args,) = parser.parse([], parser.checked(options | request.options, "--options"))
    return args


def random_teacher(request: BenchmarkArguments, size: int) -> VipriorsModel | VipriorsForImageClassification | None:
    """A teacher with random weights, where the method has one."""
    method = METHODS[request.method]
    if method.teacher_kind not in ("features", "classifier"):
        return None
    kind, fields = VipriorsForImageClassification, {}
    if method.job == "pretrain":
        kind, fields = VipriorsModel, {"projector_dim": 128}
    config = VipriorsConfig.for_backbone(
        request.teacher_backbone,
        image_size=size,
        backbone_args=request.teacher_backbone_args,
        class_names=CLASSES,
        interpolation=VIEW_INTERPOLATION,
        **fields,
    )
    return kind(config)


def batches(trainer: MethodTrainer, count: int, seed: int) -> list[dict[str, Any]]:
    """Inputs of ``count`` steps as the training makes them, ready on its device.

    Args:
        trainer: whose loader and views are used.
        seed: of the views.
    """
    generator, found = torch.Generator().manual_seed(seed), []
    for batch in trainer.get_train_dataloader():
        batch = {n: v.to(trainer.args.device) if isinstance(v, Tensor) else v for n, v in batch.items()}
        views = trainer.views(batch.pop("pixel_values"), generator)
        found.append({"views": views, **batch})
        if len(found) == count:
            break
    return found
