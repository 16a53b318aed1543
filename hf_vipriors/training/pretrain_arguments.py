"""What can be set for label-free students: SEED and DoGo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..methods import method_help, option_groups
from ..options import TEMPERATURE, option, parsed_mapping
from .teacher_arguments import LabelFreeArguments


@dataclass
class PretrainArguments(*option_groups("pretrain"), LabelFreeArguments):
    """A student without labels: from a frozen teacher (seed), or together with a peer (dogo).

    With seed ``temperature`` is the student's.
    NOTE: AdamW and its rates as in phase 1, where 2101.04731 has SGD at 0.03 and 2104.09866 Adam at 3e-4: the recipes
    hold the papers' numbers.
    """

    job: ClassVar[str] = "pretrain"

    method: str = option("seed", method_help("pretrain"))
    teacher: str | None = option(
        None,
        "seed: a folder of ours, timm/NAME or timm:NAME, a Hub id, or a public MoCo, SimCLR or SwAV .pth.tar file.",
    )
    teacher_revision: str | None = option(None, "seed: revision (branch, tag, commit) of a teacher from the Hub.")
    image_size: int | None = option(
        None,
        "Side of a view in pixels; small images are enlarged to it. None: the teacher's (seed), 64 (dogo).",
        low=8,
    )
    projector_dim: int | None = option(
        None, "Width of the projection; None: as wide as the teacher's embedding (seed), 128 (dogo).", low=1
    )
    projector_batch_norm: bool | None = option(
        None, "Batch norm inside the projector; None: as the teacher has it (seed), with simclr yes (dogo)."
    )
    temperature: float = option(
        0.2,
        "T of the student's similarities (seed [2101.04731]), of the contrast (dogo; NOTE 0.5 in 2104.09866).",
        bounds=TEMPERATURE,
    )
    instance_aware: bool = option(
        True, "seed, and dogo with moco: a queue entry of the queried image itself is masked."
    )
    queue_length: int | None = option(
        None,
        "seed, and dogo with moco: embeddings kept; None: the largest multiple of the batch that is <= images / 2 and "
        "<= 65536 (seed) or 4096 (moco).",
        low=1,
    )
    output_dir: str | None = option("outputs/pretrained_student", "Where the student, its card and checkpoints go.")

    def __post_init__(self) -> None:
        if self.peer_backbone_args is not None:
            self.peer_backbone_args = parsed_mapping(self.peer_backbone_args, "peer_backbone_args")
        super().__post_init__()
