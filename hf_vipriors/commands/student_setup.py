"""All that a run which learns from labels needs, from its arguments and data: made alike for trials and for runs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from ..data import ImageSplits, PairedStore
from ..errors import InputError
from ..hub.native_export import check_exportable
from ..hub.teachers import load_teacher
from ..methods import Method
from ..models import ExternalForImageClassification, ExternalModel, VipriorsConfig, VipriorsForImageClassification
from ..training import DataArguments, StudentArguments
from ..training.sharding import is_sharded
from ..views import VIEW_INTERPOLATION
from . import wiring
from .sskd_head import fit_head, new_head
from .student_methods import Teacher, build_method, check_teacher, start_weights, student_views

logger = logging.getLogger(__name__)


@dataclass
class StudentImages:
    """The images of one run, decoded for one size of view; of ``train`` the labelled ones count."""

    size: int
    unlabelled_ratio: int
    train: Dataset
    validation: Dataset
    test: Dataset

    def by_split(self) -> dict[str, Dataset]:
        return {"train": self.train, "validation": self.validation, "test": self.test}


@dataclass
class StudentSetup:
    """What a student is trained with.

    Attributes:
        args: settled: batch, learning rate.
        config: of the student.
        method: around the student.
        head: the teacher's self-supervision head, not yet fitted; None unless the method is sskd.
        images: of the three splits.
        class_names: the K names.
    """

    args: StudentArguments
    config: VipriorsConfig
    method: Method
    head: nn.Module | None
    images: StudentImages
    class_names: list[str]

    def trainer_options(self) -> dict[str, Any]:
        """The keyword arguments of ``StudentTrainer``."""
        return {
            "method": self.method,
            "args": self.args,
            "train_store": self.images.train,
            "views": student_views(self.config, self.args),
            "evaluation_store": self.images.validation,
            "class_names": self.class_names,
        }


def student_config(args: StudentArguments, class_names: list[str], teacher: Teacher | None) -> VipriorsConfig:
    """The student's configuration: what was given, else the teacher's, else a ResNet-18 at 64 pixels."""
    theirs = teacher.config if teacher is not None else None
    if isinstance(teacher, ExternalModel | ExternalForImageClassification) and args.backbone is None:
        raise InputError(f"--teacher {args.teacher} is no timm network: say which one the student is, with --backbone")
    same_network = theirs is not None and args.backbone in (None, theirs.backbone)
    backbone_args = args.backbone_args
    if backbone_args is None:
        backbone_args = theirs.backbone_args if same_network else {}
    return VipriorsConfig.for_backbone(
        args.backbone or (theirs.backbone if theirs is not None else "resnet18"),
        image_size=args.image_size or (theirs.image_size if theirs is not None else 64),
        backbone_args=backbone_args,
        class_names=class_names,
        crop_pct=args.crop_pct or (theirs.crop_pct if theirs is not None else 0.875),
        interpolation=VIEW_INTERPOLATION,
    )


def set_up_student(
    data: DataArguments,
    args: StudentArguments,
    splits: ImageSplits,
    teacher: Teacher | None,
    images: StudentImages | None = None,
) -> StudentSetup:
    """Everything up to the trainer; nothing is written. Settles ``args``, and the seed before the student is built.

    Args:
        data, args, splits, teacher: of the run.
        images: of another setup on the same data, used again where they have the right size.

    Raises:
        InputError: on whatever cannot work.
    """
    if "train" not in splits.splits:
        raise InputError("no labelled train split: a student needs labels (only phase 1 does without)")
    wiring.settle_seed(args)
    config = student_config(args, splits.class_names, teacher)
    student = VipriorsForImageClassification(config)
    wiring.check_rgb(student)
    check_exportable(student)
    if teacher is not None:
        check_teacher(teacher, args.teacher, config, args)
    more_teachers = [load_teacher(name) for name in args.more_teachers]
    for name, one in zip(args.more_teachers, more_teachers, strict=True):
        check_teacher(one, name, config, args)
    logger.info(start_weights(student, teacher, args))
    if images is None or (images.size, images.unlabelled_ratio) != (config.image_size, args.unlabelled_ratio):
        images = student_images(data, splits, config, args.unlabelled_ratio)
    store = images.train
    args.fit_batch(len(store))
    wiring.fit_workers(args, store)
    wiring.check_alone_in_batch(args, len(store))
    if args.method == "sskd" and args.per_device_train_batch_size < 2:
        raise InputError("--method sskd compares the images of a batch: give --per_device_train_batch_size 2 or more")
    if args.method == "sskd" and is_sharded(args):
        raise InputError("--method sskd fits a head before the student, which FSDP would shard: run it without FSDP")
    logger.info(args.settle_learning_rate(args.default_base_learning_rate))
    head = new_head(teacher) if args.method == "sskd" else None
    method = build_method(student, teacher, head, args, store.labels, more_teachers)
    return StudentSetup(args, config, method, head, images, splits.class_names)


def student_images(
    data: DataArguments, splits: ImageSplits, config: VipriorsConfig, unlabelled_ratio: int
) -> StudentImages:
    """Decode what the student trains on and is scored on.

    Raises:
        InputError: images without labels are asked for, and there are none.
    """
    pools = [splits.splits["train"]]
    if unlabelled_ratio:
        if "unlabelled" not in splits.splits:
            raise InputError(
                "no images without labels: --unlabelled split (the data set's own) or rest (those not chosen), or "
                "--unlabelled_ratio 0"
            )
        pools.append(splits.splits["unlabelled"])
    train = wiring.training_store(pools, config, data)
    if unlabelled_ratio:
        train = PairedStore(train, unlabelled_ratio)
    scored = (wiring.evaluation_store(splits.splits[name], config, data, name) for name in ("validation", "test"))
    return StudentImages(config.image_size, unlabelled_ratio, train, *scored)


def fit_teacher_head(setup: StudentSetup, data: DataArguments, splits: ImageSplits, teacher: Teacher | None) -> None:
    """Fit what the method wants fitted before the student trains. Writes beside the teacher."""
    if setup.head is not None:
        fit_head(teacher, setup.head, setup.images.train, data, setup.args, splits, setup.config.image_size)
        wiring.settle_seed(setup.args)  # a head that was found must lead to the same student as one that was fitted
