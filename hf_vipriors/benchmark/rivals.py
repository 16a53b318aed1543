"""Who else trains: lightly's MoCo recipe, and plain PyTorch loops as one writes them by hand.

Each has the same backbone, images, batch, precision and queue length as ours, its images as images in memory (the
best case for it), and torchvision's transforms, image by image, in the workers of a DataLoader. Its network lies in
memory as PyTorch makes it, not channels last.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision.transforms import v2

from ..backbones import feature_dim
from ..data import ImageStore
from ..errors import InputError
from ..losses import kd, overhaul, seed
from ..machine import usable_cores
from ..methods import MoCo
from ..models import VipriorsForImageClassification, VipriorsModel
from .runs import Plan, timed
from .setup import Case

PREFETCH = 2  # batches that each worker makes ahead: DataLoader's own default


def check_installed(name: str | None) -> None:
    """Refuse to start where ``--vs`` names a package that is missing.

    Raises:
        InputError: with the command that installs it.
    """
    if name == "lightly" and importlib.util.find_spec("lightly") is None:
        raise InputError("--vs lightly: the package is not installed here (pip install lightly)")


class Images(Dataset):
    """PIL images in memory, each transformed when it is asked for."""

    def __init__(self, store: ImageStore, transform: Callable[[Image.Image], Any]):
        arrays = store.images.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()
        self.images = [Image.fromarray(array) for array in arrays]
        self.labels, self.transform = store.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), self.labels[index]


class Recipe(nn.Module):
    """One method in plain PyTorch: what a step computes, and what comes after it."""

    transform: Callable[[Image.Image], Any]

    def forward(self, views: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        """The loss; views ``(B, 3, H, W)``, several where the transform gives several."""
        raise TypeError(f"{type(self).__name__} must define forward()")

    def after_step(self) -> None:
        """Once the optimizer has stepped."""


class WorkerFed:
    """A recipe in a plain loop. A round starts the workers anew, so that none is busy while others are timed."""

    def __init__(self, recipe: Recipe, case: Case, plan: Plan, workers: int):
        args = case.args
        self.plan, self.device, self.recipe = plan, args.device, recipe.to(args.device).train()
        learning = [p for p in recipe.parameters() if p.requires_grad]
        if args.optim == "sgd":
            self.optimizer = torch.optim.SGD(
                learning,
                lr=args.learning_rate,
                momentum=args.sgd_momentum,
                nesterov=args.nesterov,
                weight_decay=args.weight_decay,
            )
        else:
            self.optimizer = torch.optim.AdamW(learning, lr=args.learning_rate, weight_decay=args.weight_decay)
        self.precision = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=args.fp16)
        # What the workers made ahead of the first step must be used up before the clock starts.
        self.warmup = max(plan.warmup, PREFETCH * workers)
        images, batch = Images(case.store, recipe.transform), args.per_device_train_batch_size
        # One pass for a whole round: the workers neither start again in it nor have nothing left to make at its end.
        count = batch * (self.warmup + plan.steps + PREFETCH * workers)
        self.loader = DataLoader(
            images,
            batch_size=batch,
            sampler=RandomSampler(images, num_samples=count),
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
        )
        self._batches = iter(())

    def round(self) -> float:
        self._batches = iter(self.loader)
        seconds = timed(self.step, self.plan, self.device, warmup=self.warmup)
        self._batches = iter(())  # ends the workers
        return seconds

    def step(self, number: int) -> Tensor:
        views, labels = self._next()
        with torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision is not None):
            loss = self.recipe(views, labels)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.recipe.after_step()
        return loss.detach()

    def _next(self) -> tuple[Tensor | list[Tensor], Tensor]:
        views, labels = next(self._batches)
        move = {"device": self.device, "non_blocking": True}
        views = views.to(**move) if isinstance(views, Tensor) else [view.to(**move) for view in views]
        return views, labels.to(**move)


class LightlyMoCo(Recipe):
    """MoCo v2 with the parts that lightly's documentation puts together: transform, head, loss with memory bank,
    momentum update (docs.lightly.ai, "MoCo")."""

    def __init__(self, case: Case):
        super().__init__()
        loss = importlib.import_module("lightly.loss")
        modules = importlib.import_module("lightly.models.modules")
        transforms = importlib.import_module("lightly.transforms")
        self.utils = importlib.import_module("lightly.models.utils")
        method: MoCo = case.method
        config, width = case.config, feature_dim(method.model.backbone)
        self.backbone = copy.deepcopy(method.model.backbone)
        self.head = modules.MoCoProjectionHead(
            width, config.projector_hidden_dim or width, config.projector_dim, batch_norm=config.projector_batch_norm
        )
        self.momentum_backbone, self.momentum_head = copy.deepcopy(self.backbone), copy.deepcopy(self.head)
        self.utils.deactivate_requires_grad(self.momentum_backbone)
        self.utils.deactivate_requires_grad(self.momentum_head)
        bank = (len(method.queue), config.projector_dim)
        self.criterion = loss.NTXentLoss(temperature=method.temperature, memory_bank_size=bank)
        self.momentum = method.momentum
        self.transform = transforms.MoCoV2Transform(
            input_size=config.image_size, normalize={"mean": config.image_mean, "std": config.image_std}
        )

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> Tensor:
        query = self.head(self.backbone(views[0]).flatten(start_dim=1))
        with torch.no_grad():
            key = self.momentum_head(self.momentum_backbone(views[1]).flatten(start_dim=1))
        return self.criterion(query, key)

    def after_step(self) -> None:
        self.utils.update_momentum(self.backbone, self.momentum_backbone, m=self.momentum)
        self.utils.update_momentum(self.head, self.momentum_head, m=self.momentum)


def contrastive_transform(case: Case) -> v2.Compose:
    """MoCo v2's augmentation, of torchvision's parts, for one image."""
    args, config = case.args, case.config
    return v2.Compose(
        [
            v2.ToImage(),
            v2.RandomResizedCrop(config.image_size, scale=tuple(args.crop_scale), antialias=True),
            v2.RandomApply([v2.ColorJitter(*args.jitter)], p=0.8),
            v2.RandomGrayscale(args.grayscale),
            v2.RandomApply([v2.GaussianBlur(_odd(0.1 * config.image_size), sigma=(0.1, 2.0))], p=args.blur),
            v2.RandomHorizontalFlip(),
            *_normalised(config.image_mean, config.image_std),
        ]
    )


def classification_transform(case: Case) -> v2.Compose:
    """Crop or shift, and flip, for one image."""
    args, config = case.args, case.config
    crop = [v2.RandomResizedCrop(config.image_size, scale=tuple(args.crop_scale), antialias=True)]
    if args.random_shift:
        moved = v2.RandomCrop(config.image_size, padding=args.random_shift, padding_mode="symmetric")
        crop = [v2.Resize(config.image_size, antialias=True), moved]
    return v2.Compose(
        [
            v2.ToImage(),
            *crop,
            v2.RandomHorizontalFlip(args.flip),
            *_normalised(config.image_mean, config.image_std),
        ]
    )


def _normalised(mean: Sequence[float], std: Sequence[float]) -> list[nn.Module]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]


def _odd(width: float) -> int:
    return max(3, int(width) // 2 * 2 + 1)


class _Taught(Recipe):
    """A recipe with a frozen teacher in the same step."""

    def __init__(self, student: nn.Module, teacher: nn.Module):
        super().__init__()
        self.student, self.teacher = copy.deepcopy(student), copy.deepcopy(teacher).requires_grad_(False)

    def train(self, mode: bool = True):
        super().train(mode)
        self.teacher.eval()
        return self


class SeedLoop(_Taught):
    """SEED: one view through teacher and student, a queue of the teacher's embeddings."""

    def __init__(self, case: Case):
        super().__init__(case.method.student, case.teacher)
        self.transform = contrastive_transform(case)
        queue = case.method.queue.keys
        self.register_buffer("queue", F.normalize(torch.randn_like(queue), dim=1))
        self.place = 0

    def forward(self, views: Tensor, labels: Tensor) -> Tensor:
        student: VipriorsModel = self.student
        with torch.no_grad():
            theirs = self.teacher(views).projection
        loss = seed(student(views).projection, theirs, self.queue)
        rows = torch.arange(self.place, self.place + len(theirs), device=views.device) % len(self.queue)
        self.queue[rows] = F.normalize(theirs.float(), dim=1)
        self.place = (self.place + len(theirs)) % len(self.queue)
        return loss


class KdLoop(_Taught):
    """Knowledge distillation: 0.1 cross-entropy and 0.9 of the teacher's predictions at temperature 4."""

    def __init__(self, case: Case):
        super().__init__(case.method.student, case.teacher)
        self.transform = classification_transform(case)

    def forward(self, views: Tensor, labels: Tensor) -> Tensor:
        student: VipriorsForImageClassification = self.student
        with torch.no_grad():
            theirs = self.teacher(views).logits
        ours = student(views).logits
        return 0.1 * F.cross_entropy(ours.float(), labels) + 0.9 * kd(ours, theirs, temperature=4.0)


class OverhaulLoop(_Taught):
    """Overhaul distillation on the stage maps that timm hands out, with a 1x1 convolution and a norm on each."""

    def __init__(self, case: Case):
        super().__init__(case.method.student, case.teacher)
        self.transform = classification_transform(case)
        pairs = zip(self._channels(self.student), self._channels(self.teacher), strict=True)
        self.connectors = nn.ModuleList(
            nn.Sequential(nn.Conv2d(ours, theirs, 1, bias=False), nn.BatchNorm2d(theirs)) for ours, theirs in pairs
        )

    @staticmethod
    def _channels(model: VipriorsForImageClassification) -> list[int]:
        return [stage["num_chs"] for stage in model.backbone.feature_info][-4:]

    @staticmethod
    def _maps(model: VipriorsForImageClassification, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        backbone: timm.models.ResNet = model.backbone
        final, maps = backbone.forward_intermediates(images)
        return backbone.forward_head(final), maps[-4:]

    def forward(self, views: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            _, theirs = self._maps(self.teacher, views)
        logits, ours = self._maps(self.student, views)
        distance = 0.0
        for number, (connector, student, teacher) in enumerate(zip(self.connectors, ours, theirs, strict=True)):
            student = connector(student)
            if student.shape != teacher.shape:
                student = F.adaptive_avg_pool2d(student, teacher.shape[-2:])
            margin = student.new_zeros(student.shape[1])
            distance = distance + 2.0 ** (number - 3) * overhaul.partial_l2(student, teacher, margin)
        return F.cross_entropy(logits.float(), labels, label_smoothing=0.1) + 1e-4 * distance / len(views)


RECIPES: dict[str, type[Recipe]] = {"moco": LightlyMoCo, "seed": SeedLoop, "kd": KdLoop, "overhaul": OverhaulLoop}


def rival(case: Case, plan: Plan, workers: int | None = None) -> WorkerFed:
    """The other program for a case's method."""
    return WorkerFed(RECIPES[case.args.method](case), case, plan, usable_cores() if workers is None else workers)
