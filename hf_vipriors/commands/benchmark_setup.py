"""What a benchmark trains: synthetic images, a method with random weights, and the trainer that a real run would have.

Everything is built by the functions that the commands themselves use.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..cli.parser import Parser
from ..data import ImageSplits, ImageStore, PairedStore
from ..errors import InputError
from ..methods import Method
from ..models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from ..training import (
    DataArguments,
    MethodTrainer,
    PretrainArguments,
    RunArguments,
    StudentArguments,
    StudentTrainer,
    TeacherTrainer,
)
from ..views import VIEW_INTERPOLATION
from . import wiring
from .benchmark_arguments import METHODS, BenchmarkArguments
from .pretrain_student import build_dogo, build_seed
from .pretraining import contrastive_method, contrastive_views, network_config
from .student_methods import student_views
from .student_setup import StudentImages, set_up_student

CLASSES = [f"class {number}" for number in range(10)]
_STORE_SHARE = 0.875  # as the training stores of real runs: a view is this share of the image


@dataclass
class Case:
    """A method that is ready to train at one image size.

    Attributes:
        args: settled arguments of the training.
        method, views: as the training's own command builds them.
        store: what it trains on.
        config: of the network that learns.
        teacher: where the method has one.
    """

    args: RunArguments
    method: Method
    views: nn.Module
    store: Dataset
    config: VipriorsConfig
    teacher: VipriorsModel | VipriorsForImageClassification | None = None

    @property
    def images_per_step(self) -> int:
        """Data-set images of one optimizer step over all processes, however many views each has."""
        beside = self.store.companions if isinstance(self.store, PairedStore) else 0
        return self.args.step_images * (1 + beside)

    def trainer(
        self, teachers: type[TeacherTrainer] = TeacherTrainer, students: type[StudentTrainer] = StudentTrainer
    ):
        """A trainer around the method; the arguments are the classes to build it of."""
        options: dict[str, Any] = {
            **{"train_store": self.store, "views": self.views, "evaluation_store": None, "class_names": CLASSES},
        }
        if isinstance(self.args, StudentArguments):
            return students(self.method, self.args, **options)
        return teachers(self.method, self.args, bank_store=None, **options)


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


def build_case(wish: BenchmarkArguments, size: int, images: int | None = None, *, steps: int) -> Case:
    """Everything up to the trainer, for one image size.

    Args:
        images: in the store; None: as ``wish`` has it.
        steps: of the whole training.

    Raises:
        InputError: whatever the training's own command would refuse.
    """
    store = synthetic_store(images or wish.images, wish.channels, size, wish.seed)
    with tempfile.TemporaryDirectory() as folder:
        args = training_arguments(wish, size, steps, Path(folder))
        wiring.settle_seed(args)
        args.fit_batch(len(store))
        args.settle_learning_rate(args.default_base_learning_rate)
        if isinstance(args, StudentArguments):
            return _student(wish, args, store)
        return _pretraining(wish, args, store)


def training_arguments(wish: BenchmarkArguments, size: int, steps: int, folder: Path) -> RunArguments:
    """The arguments of the real command: its own defaults, what is compared, nothing evaluated or saved."""
    kind = METHODS[wish.method]
    options: dict[str, Any] = {
        **{"method": wish.method, "backbone": wish.backbone, "backbone_args": wish.backbone_args, "image_size": size},
        **{"per_device_train_batch_size": wish.batch, "bf16": wish.precision == "bf16"},
        **{"fp16": wish.precision == "fp16", "torch_compile": wish.torch_compile, "use_cpu": wish.use_cpu},
        # One log a round, which is no rarer than in a run of 50 logs.
        **{"max_steps": steps, "logging_steps": wish.steps, "seed": wish.seed, "output_dir": str(folder / "run")},
        **{"lr_scheduler_type": "constant", "warmup_steps": 0, "dataloader_num_workers": wish.workers},
        **{"eval_strategy": "no", "save_strategy": "no", "report_to": "none", "disable_tqdm": True},
    }
    if wish.method == "overhaul":
        options["distil_from_epoch"] = 0  # from the first step, not after epochs of cross-entropy
    if kind is StudentArguments and wish.method not in StudentArguments.need_no_teacher:
        options["teacher"] = wish.teacher_backbone
    if wish.method == "seed":
        options["teacher"] = str(_saved_teacher(wish, size, folder / "teacher"))
    parser = Parser([kind], "")
    (args,) = parser.parse([], parser.checked(options | wish.options, "--options"))
    return args


def _saved_teacher(wish: BenchmarkArguments, size: int, folder: Path) -> Path:
    """SEED's teacher with random weights, where its command looks for one."""
    config = _teacher_config(wish, size, projector_dim=128)
    VipriorsModel(config).save_pretrained(folder)
    return folder


def _teacher_config(wish: BenchmarkArguments, size: int, **fields: Any) -> VipriorsConfig:
    return VipriorsConfig.for_backbone(
        wish.teacher_backbone,
        image_size=size,
        backbone_args=wish.teacher_backbone_args,
        class_names=CLASSES,
        interpolation=VIEW_INTERPOLATION,
        **fields,
    )


def _pretraining(wish: BenchmarkArguments, args: RunArguments, store: ImageStore) -> Case:
    if isinstance(args, PretrainArguments):
        build: Callable = {"seed": build_seed, "dogo": build_dogo}[args.method]
        method, views = build(args, CLASSES, lambda config: len(store))
        config, teacher = method.deployable().config, method.teacher.model if args.method == "seed" else None
        return Case(args, method, views, store, config, teacher)
    model = VipriorsModel(network_config(args, CLASSES))
    wiring.check_rgb(model)
    method = contrastive_method(args.method, model, args, len(store))
    return Case(args, method, contrastive_views(args, model.config), store, model.config)


def _student(wish: BenchmarkArguments, args: StudentArguments, store: ImageStore) -> Case:
    teacher = None
    if args.method not in args.need_no_teacher:
        teacher = VipriorsForImageClassification(_teacher_config(wish, args.image_size))
    train: Dataset = store
    if args.unlabelled_ratio:
        # As in the quickstart: many more images without labels than with.
        labels = store.labels.clone()
        labels[len(store) // (1 + args.unlabelled_ratio) :] = -1
        train = PairedStore(ImageStore(store.images, labels), args.unlabelled_ratio)
    images = StudentImages(args.image_size, args.unlabelled_ratio, train, train, train)
    names = ImageSplits(dict.fromkeys(("train", "validation", "test")), CLASSES)
    setup = set_up_student(DataArguments(), args, names, teacher, images)
    return Case(setup.args, setup.method, student_views(setup.config, setup.args), train, setup.config, teacher)


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
