"""Phase 1: train a self-supervised teacher on images, labelled or not.

    accelerate launch scripts/train_teacher.py --output_dir outputs/teacher
    accelerate launch scripts/train_teacher.py --config scripts/recipes/image_folder_teacher.yaml --data_dir photos

Without options it trains on the photographs that ship with the package. The result is a folder that
`VipriorsModel.from_pretrained` loads and `scripts/train_student.py --teacher` starts from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..cli import process
from ..cli.parser import Parser
from ..data import ImageSplits
from ..methods import Method
from ..models import VipriorsConfig, VipriorsModel
from ..training import DataArguments, TeacherArguments
from ..views import ContrastiveViews
from . import wiring
from .pretraining import PretrainingResult, contrastive_method, contrastive_views, network_config, pretrain


def train_teacher(data: DataArguments, args: TeacherArguments, splits: ImageSplits | None = None) -> PretrainingResult:
    """Run phase 1 from data to a saved teacher with its card.

    Raises:
        InputError: before anything is written, on whatever cannot work.
    """

    def build(class_names: list[str], images_for: Callable[[VipriorsConfig], int]) -> tuple[Method, ContrastiveViews]:
        model = VipriorsModel(network_config(args, class_names))
        wiring.check_rgb(model)
        method = contrastive_method(args.method, model, args, images_for(model.config))
        return method, contrastive_views(args, model.config)

    return pretrain("train_teacher", data, args, splits, build)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``scripts/train_teacher.py`` and of ``-m hf_vipriors.commands.train_teacher``."""

    def job() -> None:
        data, args = Parser([DataArguments, TeacherArguments], __doc__).parse(argv)
        train_teacher(data, args)

    process.run(job, resume=["--resume_from_checkpoint", "true"])


if __name__ == "__main__":
    main()
