"""Training: arguments, the trainers that add contrastive and distillation losses to ``transformers.Trainer``."""

from .arguments import DataArguments, RunArguments
from .phase_arguments import StudentArguments, TeacherArguments
from .trainer import MethodTrainer, StudentTrainer, TeacherTrainer, guard_output_dir

__all__ = [
    "DataArguments",
    "MethodTrainer",
    "RunArguments",
    "StudentArguments",
    "StudentTrainer",
    "TeacherArguments",
    "TeacherTrainer",
    "guard_output_dir",
]
