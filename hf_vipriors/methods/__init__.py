"""Methods: one training step of one paper each, as modules. No argument parsing, no file writing."""

from .base import FrozenTeacher, Method, MethodOutput, Progress, embedding_dim
from .crd import Crd
from .dogo import DoGo
from .fitnet import FitNet
from .fixmatch import FixMatch
from .kd import KnowledgeDistillation
from .key_queue import KeyQueue, settled_queue_length
from .moco import MoCo
from .overhaul import OverhaulDistillation
from .seed import Seed
from .simclr import SimCLR
from .sskd import Sskd, SskdPretext, self_supervision_head
from .supervised import Supervised

__all__ = [
    "Crd",
    "DoGo",
    "FitNet",
    "FixMatch",
    "FrozenTeacher",
    "KeyQueue",
    "KnowledgeDistillation",
    "Method",
    "MethodOutput",
    "MoCo",
    "OverhaulDistillation",
    "Progress",
    "Seed",
    "SimCLR",
    "Sskd",
    "SskdPretext",
    "Supervised",
    "embedding_dim",
    "self_supervision_head",
    "settled_queue_length",
]
