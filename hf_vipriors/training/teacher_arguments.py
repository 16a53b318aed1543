"""What can be set for phase 1: a self-supervised teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import InputError, check_choice, check_range
from .arguments import RunArguments, option, parsed_mapping

TEACHER_METHODS = ("moco", "simclr")


def check_crop_scale(scale: list[float], name: str = "crop_scale") -> None:
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        raise InputError(f"--{name} takes the smallest and largest area, 0 < low <= high <= 1, got {scale}")


@dataclass
class TeacherArguments(RunArguments):
    """Phase 1: a self-supervised teacher.

    NOTE: ``optim`` is AdamW, where the paper has SGD: with a few hundred images SGD was seen to stay at the chance
    level (the paper's own setting is ``recipes/vipriors_resnet50.yaml``).
    """

    methods: ClassVar[tuple[str, ...]] = TEACHER_METHODS

    method: str = option("moco", "moco (momentum encoder, queue, margin) or simclr (in-batch negatives).")
    backbone: str = option("resnet18", "Any timm network.")
    backbone_args: dict | str | None = option(
        None, "JSON of arguments for timm.create_model, e.g. '{\"stem_width\": 8}'."
    )
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
        check_choice(self.method, self.methods, "method")
        check_range(self.knn_neighbours, "knn_neighbours", 1)
        if self.encoder_momentum_end is not None:
            check_range(self.encoder_momentum_end, "encoder_momentum_end", 0, 1)
        if self.batchnorm_splits is not None:
            check_range(self.batchnorm_splits, "batchnorm_splits", 1)
        if self.image_size is not None:
            check_range(self.image_size, "image_size", 8)
        check_range(self.crop_pct, "crop_pct", 0.1, 1)
        check_range(self.temperature, "temperature", 0, open_low=True)
        check_range(self.encoder_momentum, "encoder_momentum", 0, 1)
        check_range(self.grayscale, "grayscale", 0, 1)
        check_range(self.blur, "blur", 0, 1)
        if self.projector_dim is not None:
            check_range(self.projector_dim, "projector_dim", 1)
        check_crop_scale(self.crop_scale)
        if len(self.jitter) != 4 or min(self.jitter) < 0:
            raise InputError(
                f"--jitter takes four numbers >= 0 (brightness contrast saturation hue), got {self.jitter}"
            )
        if self.margin is None:
            self.margin = 0.4 if self.loss_kind == "moco" else 0.0
        check_range(self.margin, "margin", 0, 1.99)
        if self.projector_batch_norm is None and self.loss_kind in TEACHER_METHODS:
            self.projector_batch_norm = self.loss_kind == "simclr"
        self.backbone_args = parsed_mapping(self.backbone_args, "backbone_args")

    @property
    def loss_kind(self) -> str:
        """The contrastive loss inside the method."""
        return self.method

    @property
    def default_base_learning_rate(self) -> float:
        """0.03 for SGD [2008.00261]; 4e-3 for the Adam family (2e-3 at a batch of 128 learnt best in our trials)."""
        return 0.03 if self.optim == "sgd" else 4e-3
