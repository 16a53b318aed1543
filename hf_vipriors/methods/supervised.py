"""Cross-entropy with the tricks a strong baseline needs: label smoothing, mixup, cutmix, class weights, EMA.

References:
    [0] mixup: Beyond Empirical Risk Minimization, https://arxiv.org/abs/1710.09412
    [1] CutMix: Regularization Strategy to Train Strong Classifiers, https://arxiv.org/abs/1905.04899
    [2] Label Propagation for Deep Semi-supervised Learning, https://arxiv.org/abs/1904.04717
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.data import Mixup
from timm.data.mixup import mixup_target
from timm.optim import param_groups_layer_decay
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..errors import InputError
from ..models import (
    ExternalForImageClassification,
    ExternalModel,
    VipriorsConfig,
    VipriorsForImageClassification,
    VipriorsModel,
)
from ..options import Default
from ..papers import AUTOAUGMENT, CUTMIX, MIXUP, RANDAUGMENT, Paper
from ..views import VIEW_INTERPOLATION, ClassificationViews
from .base import Material, Method, MethodOutput, Progress, labelled_first
from .label_propagation import LABEL_PROPAGATION, fit_to_propagated_labels, seconds_to_propagate
from .options import STUDENT_CROP_SCALE, LabelOptions, check_crop_scale, not_given


class Supervised(Method):
    """A classifier on labels alone: the baseline, and phase 2 without distillation when it starts from a teacher.

    Args:
        student: the classifier.
        label_smoothing: share of each target spread over all classes. Default 0.1 [2008.00261].
        mixup: alpha of mixup [0], 0 for none.
        cutmix: alpha of CutMix [1], 0 for none; with both, each batch takes one of the two at random.
        ema_decay: decay of the moving average of the weights that is evaluated and deployed (warmed up over the
            first steps, so that short runs do not keep their random start); 0 for none.
        class_weights: ``(K,)`` weight of each class in the cross-entropy, or None.
        layer_decay: factor on the learning rate for each layer below the head, as timm counts layers. Default 1.
        propagate_labels: whether a trainer ends with label propagation over images without labels [2], which its steps
            do not see. Default False. At 5 labels a class fine-tuning has 73.3 with it in place of 71.9 on
            Fashion-VIPriors (three choices of them), 40.1 in place of 38.1 on CIFAR-10 (three seeds).
    """

    propagated_at_most = 50_000  # images without labels: the graph's cost grows with their square

    name, job, teacher_kind = "supervised", "student", "start"
    summary = "cross-entropy alone"
    options = LabelOptions
    parts_shown = {"classification": "ce"}
    starts_from_teacher = True
    views_kind: type[nn.Module] = ClassificationViews

    @classmethod
    def defaults(cls, args: Any) -> dict[str, Default]:
        values = {"label_smoothing": 0.1, "ema_decay": 0.0, "unlabelled_ratio": 0, "propagate_labels": False}
        return not_given(args, cls.name, **values, classification_weight=1.0, kd_weight=0.0)

    @classmethod
    def check(cls, args: Any) -> None:
        check_crop_scale(args.crop_scale)
        if args.random_shift and tuple(args.crop_scale) != STUDENT_CROP_SCALE:
            raise InputError("--crop_scale has no effect with --random_shift: leave one of them out")
        if cls.teacher_kind == "start":
            if args.kd_weight:
                raise InputError("--kd_weight needs a method with a teacher's predictions: --method kd")
            if args.classification_weight != 1:
                raise InputError(
                    "--classification_weight weighs the cross-entropy against a teacher's term: "
                    f"--method {cls.name} has none"
                )
        if args.unlabelled_ratio and not cls.takes_unlabelled:
            raise InputError(
                f"--unlabelled_ratio: --method {cls.name} has no use for images without labels; leave it out, or use "
                "--method fixmatch, one that distils them such as kd, or --propagate_labels true"
            )
        if args.more_teachers and not args.kd_weight:
            raise InputError("--more_teachers share their predictions: use --method kd, or --kd_weight")

    @classmethod
    def options_read(cls, args: Any) -> tuple[str, ...]:
        idle = () if args.kd_weight else ("kd_weight", "kd_temperature")
        idle += () if args.unlabelled_ratio else ("unlabelled_ratio",)
        idle += () if cls.reads_unlabelled(args) else ("propagate_labels",)
        idle += ("crop_scale",) if args.random_shift else ("random_shift",)
        return tuple(name for name in super().options_read(args) if name not in idle)

    @classmethod
    def papers_used(cls, args: Any) -> tuple[Paper, ...]:
        policies = {"cifar10": AUTOAUGMENT, "imagenet": AUTOAUGMENT, "randaugment": RANDAUGMENT}
        cited = [policies.get(args.auto_augment), MIXUP if args.mixup else None, CUTMIX if args.cutmix else None]
        cited.append(LABEL_PROPAGATION if args.propagate_labels else None)
        return (*super().papers_used(args), *filter(None, cited))

    @classmethod
    def asks_for_predictions(cls, args: Any) -> str | None:
        return super().asks_for_predictions(args) or (f"--kd_weight {args.kd_weight:g}" if args.kd_weight else None)

    @classmethod
    def networks(
        cls, args: Any, class_names: Sequence[str], teacher: VipriorsModel | VipriorsForImageClassification | None
    ) -> tuple[PreTrainedModel, ...]:
        return (VipriorsForImageClassification(classifier_config(args, class_names, teacher)),)

    @classmethod
    def build(cls, networks: Sequence[PreTrainedModel], args: Any, material: Material) -> Supervised:
        return cls(*networks, **label_settings(networks[0], args, material))

    @classmethod
    def views(cls, args: Any, config: VipriorsConfig) -> nn.Module:
        return cls.views_kind(config.image_size, config.image_mean, config.image_std, **cls.view_settings(args))

    @classmethod
    def view_settings(cls, args: Any) -> dict[str, Any]:
        """The keyword arguments of its kind of views."""
        own = {"crop_scale": args.crop_scale, "shift": args.random_shift}
        return own | {"flip": args.flip, "auto_augment": args.auto_augment}

    def __init__(
        self,
        student: VipriorsForImageClassification,
        *,
        label_smoothing: float = 0.1,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        ema_decay: float = 0.0,
        class_weights: Tensor | None = None,
        layer_decay: float = 1.0,
        propagate_labels: bool = False,
    ):
        super().__init__()
        self.student = student
        self.num_classes, self.label_smoothing = student.config.num_labels, label_smoothing
        self.mixer = None
        if mixup or cutmix:
            self.mixer = Mixup(
                mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=label_smoothing, num_classes=self.num_classes
            )
        self.ema = ModelEmaV3(student, decay=ema_decay, use_warmup=True) if ema_decay else None
        if self.ema is not None:
            self.ema.requires_grad_(False)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.layer_decay, self.propagate_labels = layer_decay, propagate_labels

    @classmethod
    def reads_unlabelled(cls, args: Any) -> bool:
        return bool(args.unlabelled_ratio or args.propagate_labels)

    @classmethod
    def pool_at_end(cls, args: Any) -> int:
        return cls.propagated_at_most if args.propagate_labels else 0

    @classmethod
    def seconds_at_end(cls, images: int, width: int, classes: int) -> float:
        return seconds_to_propagate(images, width, classes)

    def finish(self, trainer: Any) -> dict[str, Any]:
        if not self.propagate_labels:
            return {}
        return fit_to_propagated_labels(trainer, self.num_classes, self.propagated_at_most, self.class_weights)

    def learning_rate_factors(self) -> dict[str, float]:
        if self.layer_decay == 1:
            return {}
        backbone = self.student.backbone
        groups = param_groups_layer_decay(backbone, weight_decay=0.0, layer_decay=self.layer_decay)
        factors = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
        return {f"student.backbone.{name}": factors[id(p)] for name, p in backbone.named_parameters()}

    def mixed(self, images: Tensor, labels: Tensor, labelled: int | None = None) -> tuple[Tensor, Tensor]:
        """Images, mixed where asked, and the soft targets ``(L, K)`` of the L labelled ones, which come first.

        Images without a label (-1) follow, mixed among themselves. timm mixes pairs: an odd image stays as it is.
        """
        (images,), labels = labelled_first([images], labels, labelled)
        others = len(images) - len(labels)
        if others and self.mixer is not None:
            ours, targets = self._mixed(images[:-others], labels)
            theirs, _ = self._mixed(images[-others:], labels.new_zeros(others))
            return torch.cat([ours, theirs]), targets
        return self._mixed(images, labels)

    def _mixed(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        targets = mixup_target(labels, self.num_classes, smoothing=self.label_smoothing)
        even = len(images) // 2 * 2
        if self.mixer is not None and even:
            mixed, soft = _drawn_and_mixed(self.mixer, images[:even], labels[:even])
            images, targets = torch.cat([mixed, images[even:]]), torch.cat([soft, targets[even:]])
        return images, targets

    def classification_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of the labelled rows, which come first."""
        return F.cross_entropy(logits[: len(targets)].float(), targets, weight=self.class_weights)

    def forward(self, views: list[Tensor], labels: Tensor, index: Tensor, labelled: int | None = None) -> MethodOutput:
        (images,), labels = labelled_first(views[:1], labels, labelled)
        if len(labels) < len(images):
            raise ValueError("supervised training met an image without a label")
        images, targets = self._mixed(images, labels)
        logits = self.student(images).logits
        loss = self.classification_loss(logits, targets)
        return MethodOutput(loss=loss, parts={"classification": loss.detach()}, logits=logits)

    @torch.no_grad()
    def end_step(self, progress: Progress) -> None:
        if self.ema is not None:
            # Sharded weights and whole batch-norm statistics do not go into one call.
            self.ema.foreach = not isinstance(next(self.student.parameters()), DTensor)
            self.ema.update(self.student, step=progress.step)

    def deployable(self) -> VipriorsForImageClassification:
        return self.student if self.ema is None else self.ema.module


@torch.compiler.disable
def _drawn_and_mixed(mixer: Mixup, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """timm draws with NumPy: inside a compiled graph each draw would be a constant, compiled anew every step."""
    return mixer(images, labels)


def classifier_config(
    args: Any, class_names: Sequence[str], teacher: VipriorsModel | VipriorsForImageClassification | None
) -> VipriorsConfig:
    """The student's configuration: what was given, else the teacher's, else a ResNet-18 at 64 pixels.

    Raises:
        InputError: the teacher is no timm network, so it cannot be the student's.
    """
    theirs = teacher.config if teacher is not None else None
    if isinstance(teacher, ExternalModel | ExternalForImageClassification) and args.backbone is None:
        raise InputError(f"--teacher {args.teacher} is no timm network: say which one the student is, with --backbone")
    same_network = theirs is not None and args.backbone in (None, theirs.backbone)
    backbone_args = args.backbone_args
    if backbone_args is None:
        backbone_args = theirs.backbone_args if same_network else {}
    return VipriorsConfig.for_backbone(
        args.backbone or (theirs.backbone if theirs is not None else "resnet18"),
        image_size=args.image_size or (theirs.image_size if theirs is not None else 64),
        backbone_args=backbone_args,
        class_names=class_names,
        crop_pct=args.crop_pct or (theirs.crop_pct if theirs is not None else 0.875),
        interpolation=VIEW_INTERPOLATION,
    )


def label_settings(student: VipriorsForImageClassification, args: Any, material: Material) -> dict[str, Any]:
    """The keyword arguments of :class:`Supervised`."""
    names = ("label_smoothing", "mixup", "cutmix", "ema_decay", "layer_decay", "propagate_labels")
    settings = {name: getattr(args, name) for name in names}
    if args.class_weights == "balanced":
        settings["class_weights"] = balanced_weights(material.labels, student.config.num_labels)
    return settings


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Weight of each class: inverse to its size, 1 on average over the images.

    Example:
        >>> balanced_weights(torch.tensor([0, 0, 0, 1]), 2)
        tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)
    return len(labels) / (classes * counts.float())
