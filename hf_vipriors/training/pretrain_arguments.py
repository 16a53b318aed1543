"""What can be set for label-free students: SEED and DoGo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import InputError, check_choice, check_range
from ..invocation import command
from .arguments import option, parsed_mapping
from .teacher_arguments import TEACHER_METHODS, TeacherArguments, check_crop_scale

REDUCTIONS = ("batchmean", "mean")


@dataclass
class PretrainArguments(TeacherArguments):
    """A student without labels: from a frozen teacher (seed), or together with a peer (dogo).

    What contrastive learning has is inherited from :class:`TeacherArguments`; with seed ``temperature`` is the
    student's. NOTE: AdamW and its rates as in phase 1, where 2101.04731 has SGD at 0.03 and 2104.09866 Adam at 3e-4:
    the recipes hold the papers' numbers.
    """

    methods: ClassVar[tuple[str, ...]] = ("seed", "dogo")

    method: str = option("seed", "seed (a frozen teacher's similarities) or dogo (two peers teach each other).")
    teacher: str | None = option(
        None,
        "seed: a folder of ours, timm/NAME or timm:NAME, a Hub id, or a public MoCo, SimCLR or SwAV .pth.tar file.",
    )
    teacher_revision: str | None = option(None, "seed: revision (branch, tag, commit) of a teacher from the Hub.")
    image_size: int | None = option(
        None, "Side of a view in pixels; small images are enlarged to it. None: the teacher's (seed), 64 (dogo)."
    )
    projector_dim: int | None = option(
        None, "Width of the projection; None: as wide as the teacher's embedding (seed), 128 (dogo)."
    )
    projector_batch_norm: bool | None = option(
        None, "Batch norm inside the projector; None: as the teacher has it (seed), with simclr yes (dogo)."
    )
    temperature: float = option(
        0.2, "T of the student's similarities (seed [2101.04731]), of the contrast (dogo; NOTE 0.5 in 2104.09866)."
    )
    instance_aware: bool = option(
        True, "seed, and dogo with moco: a queue entry of the queried image itself is masked."
    )
    teacher_temperature: float = option(0.01, "seed: T of the teacher's similarities [2101.04731].")
    queue_length: int | None = option(
        None,
        "seed, and dogo with moco: embeddings kept; None: the largest multiple of the batch that is <= images / 2 and "
        "<= 65536 (seed) or 4096 (moco).",
    )
    patches: int = option(
        0, "seed: small views beside two full ones (multi-crop; [2101.04731] has 6); 0: one full view."
    )
    patch_size: int | None = option(None, "seed: side of a small view; None: 96/224 of image_size [2006.09882].")
    patch_scale: list[float] = option([0.05, 0.14], "seed: area of a small view [2006.09882].")
    contrast: str = option("simclr", "dogo: each peer's own loss, simclr or moco.")
    peer_backbone: str | None = option(None, "dogo: the other network; None: the same as --backbone.")
    peer_backbone_args: dict | str | None = option(
        None, "dogo: JSON of arguments of the other network; None: --backbone_args where the network is the same."
    )
    peer_learning_rate: float | None = option(None, "dogo: learning rate of the other network; None: the same.")
    mutual_weight: float | None = option(None, "dogo: weight of the KL of --backbone; None: 1, or 100 with mean.")
    peer_mutual_weight: float = option(1.0, "dogo: weight of the KL of --peer_backbone.")
    mutual_temperature: float = option(0.1, "dogo: T of the similarities [2104.09866].")
    mutual_reduction: str = option(
        "batchmean", "dogo: batchmean (the KL itself), or mean over all entries as in the published program."
    )

    output_dir: str | None = option("outputs/pretrained_student", "Where the student, its card and checkpoints go.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.contrast, TEACHER_METHODS, "contrast")
        check_choice(self.mutual_reduction, REDUCTIONS, "mutual_reduction")
        check_range(self.teacher_temperature, "teacher_temperature", 0, open_low=True)
        check_range(self.mutual_temperature, "mutual_temperature", 0, open_low=True)
        check_range(self.patches, "patches", 0)
        check_crop_scale(self.patch_scale, "patch_scale")
        if self.patch_size is not None:
            check_range(self.patch_size, "patch_size", 8)
        if self.peer_learning_rate is not None:
            check_range(self.peer_learning_rate, "peer_learning_rate", 0, open_low=True)
        if self.mutual_weight is None:
            self.mutual_weight = 100.0 if self.mutual_reduction == "mean" else 1.0
        for name in ("mutual_weight", "peer_mutual_weight"):
            check_range(getattr(self, name), name, 0)
        if self.method == "seed" and self.teacher is None:
            raise InputError(f"--method seed needs --teacher (a folder made by {command('teacher')}, or timm/NAME)")
        if self.method == "dogo" and self.teacher is not None:
            raise InputError("--method dogo has no teacher, its peers teach each other: leave --teacher out")
        if self.method == "seed" and self.peer_backbone is not None:
            raise InputError("--peer_backbone belongs to --method dogo: seed has a --teacher")
        if self.method == "dogo" and self.patches:
            raise InputError("--patches belongs to --method seed: leave it out")
        if self.peer_backbone_args is None and self.method == "dogo" and self.peer_backbone in (None, self.backbone):
            self.peer_backbone_args = self.backbone_args
        self.peer_backbone_args = parsed_mapping(self.peer_backbone_args, "peer_backbone_args")

    @property
    def loss_kind(self) -> str:
        return self.contrast if self.method == "dogo" else self.method
