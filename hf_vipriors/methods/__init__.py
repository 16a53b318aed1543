"""Methods: one training step of one paper each, as modules. No argument parsing, no file writing."""

from .base import FrozenTeacher, Method, MethodOutput, Progress
from .moco import MoCo, settled_queue_length
from .overhaul import OverhaulDistillation
from .simclr import SimCLR
from .supervised import Supervised

__all__ = [
    "FrozenTeacher",
    "Method",
    "MethodOutput",
    "MoCo",
    "OverhaulDistillation",
    "Progress",
    "SimCLR",
    "Supervised",
    "settled_queue_length",
]
