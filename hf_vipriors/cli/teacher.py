"""Phase 1: train a self-supervised teacher on images, labelled or not.

    accelerate launch scripts/train_teacher.py --output_dir outputs/teacher
    accelerate launch scripts/train_teacher.py --config scripts/recipes/image_folder_teacher.yaml --data_dir photos

Without options it trains on the photographs that ship with the package. The result is a folder that
`VipriorsModel.from_pretrained` loads and `scripts/train_student.py --teacher` starts from.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..run import train
from ..training import DataArguments, TeacherArguments
from . import process
from .parser import Parser


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``hf-vipriors teacher``."""

    def job() -> None:
        data, args = Parser([DataArguments, TeacherArguments], __doc__).parse(argv)
        train(data, args)

    process.run(job, resume=["--resume_from_checkpoint", "true"])
