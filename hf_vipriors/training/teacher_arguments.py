"""What can be set for phase 1 and for phase 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import InputError, check_choice, check_range
from ..views import AUTO_AUGMENT_POLICIES
from .arguments import RunArguments, option, parsed_mapping

TEACHER_METHODS = ("moco", "simclr")
STUDENT_METHODS = ("overhaul", "supervised")


def check_crop_scale(scale: list[float]) -> None:
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        raise InputError(f"--crop_scale takes the smallest and largest area, 0 < low <= high <= 1, got {scale}")


@dataclass
class TeacherArguments(RunArguments):
    """Phase 1: a self-supervised teacher.

    NOTE: ``optim`` is AdamW, where the paper has SGD: with a few hundred images SGD was seen to stay at the chance
    level (the paper's own setting is ``recipes/vipriors_resnet50.yaml``).
    """

    method: str = option("moco", "moco (momentum encoder, queue, margin) or simclr (in-batch negatives).")
    backbone: str = option("resnet18", "Any timm network.")
    backbone_args: str | None = option(None, "JSON of arguments for timm.create_model, e.g. '{\"stem_width\": 8}'.")
    image_size: int = option(64, "Side of a view in pixels; small images are enlarged to it.")
    crop_pct: float = option(0.875, "Evaluation resizes to image_size / crop_pct, then crops the centre; 1: no crop.")
    projector_dim: int = option(128, "Width of the projection the loss sees [2008.00261].")
    projector_hidden_dim: int | None = option(None, "Width of the projector's hidden layer; None: the feature width.")
    projector_batch_norm: bool | None = option(
        None, "Batch norm inside the projector; None: with simclr yes, with moco no (as published)."
    )
    temperature: float = option(0.2, "T of the contrastive loss [2008.00261].")
    margin: float | None = option(None, "Margin on the positive; None: 0.4 for moco [2008.00261], 0 for simclr.")
    queue_length: int | None = option(
        None, "moco: keys kept as negatives; None: the largest multiple of the batch that is <= min(4096, images / 2)."
    )
    encoder_momentum: float = option(0.999, "moco: momentum of the key encoder at the start [1911.05722].")
    encoder_momentum_end: float | None = option(None, "moco: ... at the end, on a half cosine; None: constant.")
    batchnorm_splits: int | None = option(None, "moco: groups the key batch is normalised in; None: one per 32 keys.")
    instance_aware: bool = option(True, "moco: a queue entry of the queried image itself is no negative.")
    crop_scale: list[float] = option([0.2, 1.0], "Area of a crop, smallest and largest share [2003.04297].")
    jitter: list[float] = option([0.4, 0.4, 0.4, 0.1], "Brightness, contrast, saturation, hue [2003.04297].")
    grayscale: float = option(0.2, "Probability of grayscale [2003.04297].")
    blur: float = option(0.5, "Probability of Gaussian blur [2003.04297].")
    knn_neighbours: int = option(20, "Neighbours that vote in the online kNN.")

    output_dir: str | None = option("outputs/teacher", "Where the teacher, its card and its checkpoints go.")
    num_train_epochs: float = option(200.0, "Passes over the images [2008.00261 has 800].")
    default_batch: ClassVar[int] = 128
    per_device_train_batch_size: int = option(
        0, "Images per device and step, each in two views; 0: 128, or half of the images where they are few."
    )
    optim: str = option("adamw_torch", "adamw_torch, sgd, or any optimizer of transformers.")
    weight_decay: float = option(1e-4, "[2008.00261]")
    warmup_steps: float = option(0.05, "Warm-up of the learning rate: steps, or a share of the run when below 1.")
    dataloader_drop_last: bool = option(True, "Leave out the last, smaller batch: its negatives would be fewer.")

    def __post_init__(self) -> None:
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model, self.greater_is_better = "knn_top1", True
        super().__post_init__()
        check_choice(self.method, TEACHER_METHODS, "method")
        check_range(self.knn_neighbours, "knn_neighbours", 1)
        if self.encoder_momentum_end is not None:
            check_range(self.encoder_momentum_end, "encoder_momentum_end", 0, 1)
        if self.batchnorm_splits is not None:
            check_range(self.batchnorm_splits, "batchnorm_splits", 1)
        check_range(self.image_size, "image_size", 8)
        check_range(self.crop_pct, "crop_pct", 0.1, 1)
        check_range(self.temperature, "temperature", 0, open_low=True)
        check_range(self.encoder_momentum, "encoder_momentum", 0, 1)
        check_range(self.grayscale, "grayscale", 0, 1)
        check_range(self.blur, "blur", 0, 1)
        check_range(self.projector_dim, "projector_dim", 1)
        check_crop_scale(self.crop_scale)
        if len(self.jitter) != 4 or min(self.jitter) < 0:
            raise InputError(
                f"--jitter takes four numbers >= 0 (brightness contrast saturation hue), got {self.jitter}"
            )
        if self.margin is None:
            self.margin = 0.4 if self.method == "moco" else 0.0
        check_range(self.margin, "margin", 0, 1.99)
        if self.projector_batch_norm is None:
            self.projector_batch_norm = self.method == "simclr"
        self.backbone_args = parsed_mapping(self.backbone_args, "backbone_args")

    @property
    def default_base_learning_rate(self) -> float:
        """0.03 for SGD [2008.00261]; 4e-3 for the Adam family (2e-3 at a batch of 128 learnt best in our trials)."""
        return 0.03 if self.optim == "sgd" else 4e-3


@dataclass
class StudentArguments(RunArguments):
    """Phase 2: a classifier, distilled from a teacher, fine-tuned from it, or trained from scratch."""

    method: str = option(
        "overhaul", "overhaul (cross-entropy and feature distillation) or supervised (cross-entropy alone)."
    )
    teacher: str | None = option(
        None, "Folder of a phase-1 teacher. With --method supervised the student merely starts from it."
    )
    student_init: str | None = option(
        None,
        "Where the student's weights come from: 'teacher', 'scratch' or a folder; None: the teacher where the network "
        "is the same, else scratch.",
    )
    backbone: str | None = option(None, "Any timm network; None: the teacher's, or resnet18 without a teacher.")
    backbone_args: str | None = option(None, "JSON of arguments for timm.create_model; None: the teacher's.")
    image_size: int | None = option(None, "Side of an image in pixels; None: the teacher's, or 64. May be larger.")
    crop_pct: float | None = option(None, "Evaluation resizes to size / crop_pct; None: the teacher's, or 0.875.")
    feature_weight: float = option(1e-4, "overhaul: weight of the feature distance [2008.00261].")
    distil_from_epoch: float = option(5.0, "overhaul: cross-entropy alone before this epoch [2008.00261].")
    teacher_batch_statistics: bool = option(
        False, "overhaul: run the teacher's batch norms on the batch, as the published program did."
    )
    label_smoothing: float = option(0.1, "Share of each target spread over all classes [2008.00261].")
    mixup: float = option(0.0, "Alpha of mixup, 0: none.")
    cutmix: float = option(0.0, "Alpha of CutMix, 0: none.")
    ema_decay: float = option(0.0, "Decay of the moving average of the weights, which is what is kept; 0: none.")
    auto_augment: str | None = option(None, "AutoAugment policy: cifar10 (the published program's) or imagenet.")
    class_weights: str = option("none", "'balanced' weighs classes by the inverse of their size; 'none'.")
    crop_scale: list[float] = option([0.5, 1.0], "Area of a crop, smallest and largest share of the image.")
    flip: float = option(0.5, "Probability of a left-right flip; 0 where left and right differ (digits, text).")

    output_dir: str | None = option("outputs/student", "Where the student, its card and its checkpoints go.")
    num_train_epochs: float = option(100.0, "Passes over the labelled images [2008.00261].")
    per_device_train_batch_size: int = option(
        0, "Images per device and step; 0: 64, or half of the images where they are few."
    )
    optim: str = option("sgd", "sgd [2008.00261], adamw_torch, or any optimizer of transformers.")
    nesterov: bool = option(True, "Nesterov momentum for --optim sgd [2008.00261].")
    weight_decay: float = option(5e-4, "NOTE 1e-4 in 2008.00261; few images want more.")
    warmup_steps: float = option(0.05, "Warm-up of the learning rate: steps, or a share of the run when below 1.")

    def __post_init__(self) -> None:
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model, self.greater_is_better = "top1", True
        super().__post_init__()
        check_choice(self.method, STUDENT_METHODS, "method")
        check_choice(self.class_weights, ("none", "balanced"), "class_weights")
        if self.auto_augment is not None:
            check_choice(self.auto_augment, AUTO_AUGMENT_POLICIES, "auto_augment")
        if self.method == "overhaul" and self.teacher is None:
            raise InputError("--method overhaul needs --teacher DIR (made by scripts/train_teacher.py)")
        if self.image_size is not None:
            check_range(self.image_size, "image_size", 8)
        if self.crop_pct is not None:
            check_range(self.crop_pct, "crop_pct", 0.1, 1)
        check_range(self.label_smoothing, "label_smoothing", 0, 0.99)
        check_range(self.feature_weight, "feature_weight", 0)
        check_range(self.flip, "flip", 0, 1)
        for name in ("mixup", "cutmix"):
            check_range(getattr(self, name), name, 0)
        check_range(self.ema_decay, "ema_decay", 0, 0.999999)
        check_crop_scale(self.crop_scale)
        self.backbone_args = (
            None if self.backbone_args is None else parsed_mapping(self.backbone_args, "backbone_args")
        )

    @property
    def default_base_learning_rate(self) -> float:
        """0.1 per 256 images for SGD [2008.00261], 1e-3 for the Adam family."""
        return 0.1 if self.optim == "sgd" else 1e-3
