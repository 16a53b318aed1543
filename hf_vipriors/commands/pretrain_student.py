"""Train a student without labels: taught by a frozen teacher (SEED), or together with a peer (DoGo).

    accelerate launch scripts/pretrain_student.py --method seed --teacher outputs/teacher --backbone efficientnet_b0
    accelerate launch scripts/pretrain_student.py --method dogo --backbone resnet18 --peer_backbone resnet50

The result is a folder like a teacher's: `scripts/train_student.py --teacher DIR` fine-tunes or distils from it. Its
backbone also lies in DIR/native, where transformers and timm read it without this package. Of two peers the smaller
one is DIR and the larger one DIR/peer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..cli import process
from ..cli.parser import Parser
from ..data import ImageSplits
from ..errors import InputError
from ..hub.native_export import check_exportable
from ..hub.teachers import load_teacher
from ..methods import DoGo, Method, Seed, embedding_dim
from ..models import VipriorsConfig, VipriorsModel
from ..training import DataArguments, PretrainArguments
from ..views import ContrastiveViews
from . import wiring
from .pretraining import (
    PretrainingResult,
    contrastive_method,
    contrastive_views,
    network_config,
    pretrain,
    settled_queue,
)

SEED_QUEUE = 65536  # [2101.04731]
ImageCount = Callable[[VipriorsConfig], int]


def build_seed(
    args: PretrainArguments, class_names: list[str], images_for: ImageCount
) -> tuple[Method, ContrastiveViews]:
    teacher = load_teacher(args.teacher, revision=args.teacher_revision)
    wiring.check_rgb(teacher)
    width = embedding_dim(teacher)
    if args.projector_dim not in (None, width):
        raise InputError(f"--projector_dim {args.projector_dim}: the teacher embeds in {width}; leave it out")
    wiring.settle_seed(args)  # whatever loading a teacher drew, the student starts from the seed
    batch_norm = args.projector_batch_norm
    config = network_config(
        args,
        class_names,
        image_size=args.image_size or teacher.config.image_size,
        projector_dim=width,
        projector_batch_norm=teacher.config.projector_batch_norm if batch_norm is None else batch_norm,
    )
    student = exportable(config)
    check_patches(args, student)
    length = settled_queue(args, images_for(config), most=SEED_QUEUE, otherwise="give more images")
    method = Seed(
        student,
        teacher,
        queue_length=length,
        patch_queue_length=length if args.patches else None,
        student_temperature=args.temperature,
        teacher_temperature=args.teacher_temperature,
        instance_aware=args.instance_aware,
    )
    views = contrastive_views(
        args,
        config,
        views=2 if args.patches else 1,
        patches=args.patches,
        patch_size=args.patch_size,
        patch_scale=args.patch_scale,
    )
    return method, views


def check_patches(args: PretrainArguments, student: VipriorsModel) -> None:
    """Small views must be smaller than the full ones, and the student must take both."""
    if not args.patches:
        return
    name, size = student.config.backbone, student.config.image_size
    if student.fixed_size:
        raise InputError(f"--patches: {name} takes images of {size} pixels only, no small views: leave it out")
    if args.patch_size is not None and args.patch_size >= size:
        raise InputError(f"--patch_size {args.patch_size} is not smaller than a full view ({size} pixels)")


def build_dogo(
    args: PretrainArguments, class_names: list[str], images_for: ImageCount
) -> tuple[Method, ContrastiveViews]:
    fields = {"image_size": args.image_size or 64, "projector_dim": args.projector_dim or 128}
    ours = network_config(args, class_names, **fields)
    theirs = network_config(
        args,
        class_names,
        **fields,
        backbone=args.peer_backbone or args.backbone,
        backbone_args=args.peer_backbone_args,
    )
    networks = [exportable(config) for config in (ours, theirs)]
    images = images_for(ours)
    peers = [contrastive_method(args.contrast, network, args, images) for network in networks]
    method = DoGo(
        *peers,
        weights=(args.mutual_weight, args.peer_mutual_weight),
        temperature=args.mutual_temperature,
        reduction=args.mutual_reduction,
        learning_rate_factor=(args.peer_learning_rate or args.learning_rate) / args.learning_rate,
    )
    return method, contrastive_views(args, ours, views=4)


def exportable(config: VipriorsConfig) -> VipriorsModel:
    """A fresh network that will be exported, checked before it is trained."""
    model = VipriorsModel(config)
    wiring.check_rgb(model)
    check_exportable(model)
    return model


def pretrain_student(
    data: DataArguments, args: PretrainArguments, splits: ImageSplits | None = None
) -> PretrainingResult:
    """Run SEED or DoGo from data to a saved student with its card.

    Raises:
        InputError: before anything is written, on whatever cannot work.
    """
    build = {"seed": build_seed, "dogo": build_dogo}[args.method]
    return pretrain("pretrain_student", data, args, splits, lambda names, images: build(args, names, images))


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``scripts/pretrain_student.py`` and of ``-m hf_vipriors.commands.pretrain_student``."""

    def job() -> None:
        data, args = Parser([DataArguments, PretrainArguments], __doc__).parse(argv)
        pretrain_student(data, args)

    process.run(job, resume=["--resume_from_checkpoint", "true"])


if __name__ == "__main__":
    main()
