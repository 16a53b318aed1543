"""Training: arguments, the trainers that add contrastive and distillation losses to ``transformers.Trainer``."""

from .arguments import RunArguments
from .data_arguments import DataArguments
from .pretrain_arguments import PretrainArguments
from .run_folder import guard_output_dir
from .student_arguments import StudentArguments
from .teacher_arguments import TeacherArguments
from .trainer import MethodTrainer
from .trainers import StudentTrainer, TeacherTrainer

__all__ = [
    "DataArguments",
    "MethodTrainer",
    "PretrainArguments",
    "RunArguments",
    "StudentArguments",
    "StudentTrainer",
    "TeacherArguments",
    "TeacherTrainer",
    "guard_output_dir",
]
