"""What can be set for phase 1, a self-supervised teacher, and what all trainings without labels share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..methods import method_help, option_groups
from ..options import option, parsed_mapping
from .arguments import RunArguments


@dataclass
class LabelFreeArguments(RunArguments):
    """What teachers and label-free students share, whatever their method.

    NOTE: ``optim`` is AdamW, where the paper has SGD: with a few hundred images SGD was seen to stay at the chance
    level (the paper's own setting is ``recipes/vipriors_resnet50.yaml``).
    """

    job: ClassVar[str]

    num_train_epochs: float = option(200.0, "Passes over the images [2008.00261 has 800].")
    default_batch: ClassVar[int] = 128
    best_metric: ClassVar[str] = "knn_top1"
    per_device_train_batch_size: int = option(
        0, "Images per device and step, each in two views; 0: 128, or half of the images where they are few."
    )
    optim: str = option("adamw_torch", "adamw_torch, sgd, or any optimizer of transformers.")
    weight_decay: float = option(1e-4, "[2008.00261]")
    warmup_steps: float = option(0.05, "Warm-up of the learning rate: steps, or a share of the run when below 1.")
    dataloader_drop_last: bool = option(True, "Leave out the last, smaller batch: its negatives would be fewer.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.backbone_args = parsed_mapping(self.backbone_args, "backbone_args")
        self.check_method(self.job)

    @property
    def default_base_learning_rate(self) -> float:
        """0.03 for SGD [2008.00261]; 4e-3 for the Adam family (2e-3 at a batch of 128 learnt best in our trials)."""
        return 0.03 if self.optim == "sgd" else 4e-3


@dataclass
class TeacherArguments(*option_groups("teacher"), LabelFreeArguments):
    """Phase 1: a self-supervised teacher. The options of its methods stand in their files, in ``methods/``.

    Example:
        >>> args = TeacherArguments("outputs/teacher", method="simclr", temperature=0.1, use_cpu=True)
        >>> args.margin is None  # follows from the method, when the run is set up
        True
    """

    job: ClassVar[str] = "teacher"

    method: str = option("moco", method_help("teacher"))
    output_dir: str | None = option("outputs/teacher", "Where the teacher, its card and its checkpoints go.")
