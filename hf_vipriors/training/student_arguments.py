"""What can be set for students that learn from labels: phase 2 and its relatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import InputError
from ..methods import method_help, option_groups
from ..options import option, parsed_mapping
from .arguments import RunArguments


@dataclass
class StudentArguments(*option_groups("student"), RunArguments):
    """A classifier, distilled from a teacher, fine-tuned from it, or trained from scratch.

    The options of its methods stand in their files, in ``methods/``.

    Example:
        >>> args = StudentArguments("outputs/student", method="supervised", mixup=0.3, use_cpu=True)
        >>> args.mixup, args.label_smoothing
        (0.3, None)
    """

    job: ClassVar[str] = "student"
    best_metric: ClassVar[str] = "top1"

    method: str = option("overhaul", method_help("student"))
    teacher: str | None = option(
        None,
        "A folder of ours, fashion-vipriors-teacher (ships with the package), timm/NAME or timm:NAME, a Hub id, or a "
        "public MoCo, SimCLR or SwAV .pth.tar file. "
        "With --method supervised and fixmatch the student merely starts from it.",
    )
    teacher_revision: str | None = option(None, "Revision (branch, tag, commit) of a teacher from the Hub.")
    backbone: str | None = option(None, "Any timm network; None: the teacher's, or resnet18 without a teacher.")
    backbone_args: dict | str | None = option(
        None, "JSON of arguments for timm.create_model; None: the teacher's where the network is the same."
    )
    image_size: int | None = option(
        None, "Side of an image in pixels; None: the teacher's, or 64. May be larger.", low=8
    )
    crop_pct: float | None = option(
        None, "Evaluation resizes to size / crop_pct; None: the teacher's, or 0.875.", low=0.1, high=1
    )

    trials: int = option(
        0,
        "Train this many students first, with settings drawn from --search_space, and keep the settings that are "
        "best on validation; 0: none. Started again, a killed search goes on.",
        low=0,
    )
    search_space: str | None = option(
        None,
        "What --trials may change and between what: a YAML file, or the name of one that ships with the package "
        "(supervised, overhaul, fixmatch, width, rate). Networks that it names train for as long as costs the same.",
    )
    settings_of: str | None = option(
        None,
        "Folder of a run with --trials: take the settings that were best there. A network among them trains for what "
        "the one that is given, or the default, would cost.",
    )

    corruptions: bool = option(False, "Score corrupted test images too (11 corruptions, 5 severities).")

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
        super().__post_init__()
        if self.backbone_args is not None:
            self.backbone_args = parsed_mapping(self.backbone_args, "backbone_args")
        self.check_method(self.job)
        self._check_search()

    def _check_search(self) -> None:
        """Refuse a search that has no space, or that has no use."""
        if self.trials and self.settings_of:
            raise InputError("--trials searches for settings, --settings_of takes another run's: give one of them")
        if self.trials and not self.search_space:
            raise InputError("--trials needs --search_space, such as supervised")
        if self.search_space and not self.trials:
            raise InputError("--search_space does nothing without --trials N")
        if self.trials and self.time_limit is not None:
            raise InputError("--time_limit is of one training: with --trials give --num_train_epochs or --max_steps")
        if self.trials and self.world_size > 1:
            raise InputError("--trials runs in one process: search so, then give its folder to --settings_of in many")
        if self.trials and self.load_best_model_at_end:
            raise InputError("--trials scores a student when its training ends: leave --load_best_model_at_end out")
