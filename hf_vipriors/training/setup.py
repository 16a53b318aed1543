"""All that a training needs, from its arguments and images: made alike for runs, trials, benchmarks and notebooks."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields

import transformers
from torch import nn
from transformers import PreTrainedModel

from ..backbones import is_harmonic, load_plain_state, make_harmonic, plain_state
from ..data import ImageSplits
from ..errors import InputError
from ..hub.native_export import check_exportable
from ..hub.teachers import Teacher, load_ours, load_teacher
from ..methods import METHODS, Material, Method
from ..models import VipriorsConfig, VipriorsForImageClassification
from .arguments import RunArguments
from .data_arguments import DataArguments
from .resolve import Resolved, complete, resolve
from .sharding import is_sharded
from .stores import Store, check_classes_left, decode_images, full_scale, is_streamed, nothing_apart
from .teacher_checks import check_classifier, check_teacher_is_trained

logger = logging.getLogger(__name__)
# Of the options that all runs have: what batches, networks, precision and learning rate were made with.
READ_FIRST = {"per_device_train_batch_size", "base_learning_rate", "seed", "bf16", "fp16"}
READ_LATER = {"knn_neighbours", "corruptions"}  # of those of a job: what evaluations ask for each time


@dataclass
class Setup:
    """What a training is made of; nothing is written yet.

    Attributes:
        given: the arguments as a person gave them.
        resolved: the same, complete.
        data: which images, and how they wait.
        splits: the images, undecoded.
        stores: ``"train"``, and where there are labels ``"validation"``, with ``"bank"`` (the labelled images that
            vote in kNN) for a teacher, with ``"test"`` for a student; without any label a teacher's ``"validation"``
            are some of its training images.
        method: what is trained.
        views: what turns stored images into its input.
        taught: whether it has a teacher, which a person named or handed over.
        repeatable: whether it can be made anew from the arguments and images alone.
        title: what a card calls the images, where a person handed them over; None: what ``data`` says.
    """

    given: RunArguments
    resolved: Resolved
    data: DataArguments
    splits: ImageSplits
    stores: dict[str, Store]
    method: Method
    views: nn.Module
    taught: bool = False
    repeatable: bool = True
    title: str | None = None

    @property
    def args(self) -> RunArguments:
        """Complete."""
        return self.resolved.args

    @property
    def config(self) -> VipriorsConfig:
        """Of the network that is deployed."""
        return self.method.deployable().config

    @property
    def class_names(self) -> list[str]:
        return self.splits.class_names

    def check_as_made(self) -> None:
        """Refuse options that were set when all that reads them had been made: they would be told, and not so.

        Raises:
            InputError: naming them.
        """
        own = {each.name for each in fields(self.args)} - {each.name for each in fields(RunArguments)} - READ_LATER
        if late := sorted(self.resolved.set_since(self.args).keys() & (own | READ_FIRST)):
            raise InputError(
                f"trainer.args: {', '.join(late)} set after what reads {'it' if len(late) == 1 else 'them'} was made: "
                f"give {'it' if len(late) == 1 else 'them'} to {type(self.args).__name__} and make a new trainer"
            )


def set_up(
    given: RunArguments,
    data: DataArguments,
    splits: ImageSplits,
    *,
    teacher: Teacher | None = None,
    network: PreTrainedModel | None = None,
    stores: dict[str, Store] | None = None,
    images: int | None = None,
) -> Setup:
    """Networks, stores, arguments and method, in the order in which the seed is spent.

    Args:
        given: not changed.
        data, splits: the images.
        teacher: already loaded; None: the one that the arguments name.
        network: to train in place of the one that the arguments describe.
        stores: already decoded for this size of image.
        images: how many the arguments follow from, where the stores hold a sample of them.

    Raises:
        InputError: on whatever cannot work; nothing has been written.
    """
    args, kind = complete(given).args, METHODS[given.method]
    if kind.job == "student" and stores is None and "train" not in splits.splits:
        because = "" if splits.unlabelled_because is None else f": {splits.unlabelled_because}"
        raise InputError(f"no labelled train split: a student needs labels (only phase 1 does without){because}")
    if kind.job == "student" and len(splits.class_names) == 1 and network is None:
        raise InputError(
            f"only one class ({splits.class_names[0]!r}): a classifier needs two; labels of -1 count as hidden ones"
        )
    if kind.prepare is not Method.prepare and is_sharded(given):
        raise InputError(
            f"--method {given.method} fits a head before the student, which FSDP would shard: run it without FSDP"
        )
    if given.harmonic is not None and is_sharded(given):
        raise InputError("--harmonic: FSDP would shard what its kernels are made of: run it without FSDP")
    if teacher is None:
        teacher = load_named_teacher(given, data)
    seed_everything(args)  # whatever loading a teacher drew, the networks start from the seed
    networks = kind.networks(args, splits.class_names, teacher) if network is None else (network,)
    for each in networks:
        check_channels(each)
        each.float()  # one that was loaded in half precision; bf16 and fp16 are autocast
        if kind.job != "teacher":
            check_exportable(each)
        each.config.full_scale = full_scale(each.config, data)  # decides how it sees images: part of the model
        to_harmonic(each, args, fresh=network is None)
    teachers = checked_teachers(teacher, given, networks[0].config)
    if kind.job == "student" and network is None:
        logger.info(start_weights(networks[0], teacher, args))
    if (white := networks[0].config.full_scale) is not None:
        logger.info(
            "gray images of more than 8 bits: %g becomes 255; pipeline() and the Hub widget clip at 255, the card "
            "says how to convert images for them",
            white,
        )
    _check_measured(given, splits, data)
    if stores is None:
        stores = decode_images(splits, networks[0].config, args, data)
        if images is None:  # a sample may lack a class
            check_classes_left(stores, splits)
    if given.load_best_model_at_end and given.metric_for_best_model == "knn_top1" and "bank" not in stores:
        raise InputError(
            "--load_best_model_at_end: kNN needs labelled images, and there are none: add --metric_for_best_model "
            "effective_rank, or leave it out"
        )
    train = stores["train"]
    count = len(train) if images is None else images
    resolved = resolve(given, images=count, streamed=is_streamed(train), evaluates="validation" in stores)
    log_resolved(resolved)
    method = kind.build(networks, resolved.args, Material(len(train), train.labels, teachers))
    views = kind.views(resolved.args, networks[0].config)
    return Setup(
        given, resolved, data, splits, stores, method, views, taught=teacher is not None, repeatable=network is None
    )


def _check_measured(given: RunArguments, splits: ImageSplits, data: DataArguments) -> None:
    """Refuse what would be chosen or measured on images that are not set apart."""
    if METHODS[given.method].job != "student" or not nothing_apart(splits, data):
        return
    asked = {
        "--load_best_model_at_end": given.load_best_model_at_end,
        "--save_strategy best": given.save_strategy == "best",
        "--eval_on_start": given.eval_on_start,
        "--corruptions": vars(given)["corruptions"] and "test" not in splits.splits,
    }
    for option in (name for name, wanted in asked.items() if wanted):
        raise InputError(
            f"{option} needs images to measure on, and --validation_share 0 sets none apart: leave one out"
        )


def seed_everything(args: RunArguments) -> None:
    """Seed before a model is built: its random start is part of the run."""
    if args.full_determinism:
        transformers.enable_full_determinism(args.seed)
    else:
        transformers.set_seed(args.seed)


def load_named_teacher(args: RunArguments, data: DataArguments) -> Teacher | None:
    """The network that ``teacher`` names, or None.

    Raises:
        InputError: it cannot be loaded; of one that a recipe of ours makes, it says how it is trained on ``data``.
    """
    name = args.teacher if METHODS[args.method].teacher_kind != "none" else None
    if not name:
        return None
    check_teacher_is_trained(name, data)
    return load_teacher(name, revision=args.teacher_revision)


def checked_teachers(teacher: Teacher | None, args: RunArguments, config: VipriorsConfig) -> tuple[Teacher, ...]:
    """``teacher`` and the further ones that the arguments name, each fit to teach a student of ``config``.

    Raises:
        InputError: one takes other images, or does not know the classes where its predictions are distilled.
    """
    kind = METHODS[args.method]
    named = [] if teacher is None else [(args.teacher or teacher.config.backbone, teacher)]
    if kind.job == "student":
        named += [(name, load_teacher(name)) for name in args.more_teachers]
    asked = kind.asks_for_predictions(complete(args).args)
    for name, each in named:
        check_channels(each)
        if each.config.full_scale not in (None, config.full_scale):
            raise InputError(
                f"the teacher {name} was trained on gray images with --full_scale {each.config.full_scale:g}: give "
                "the same number"
            )
        if asked is not None:
            check_classifier(each, name, config, asked)
    return tuple(each for _, each in named)


def check_channels(model: PreTrainedModel) -> None:
    """Views and native checkpoints have three channels; gray images are expanded to them.

    Raises:
        InputError: a network with another number of input channels.
    """
    if model.backbone.in_chans != 3:
        raise InputError(
            f"{model.config.backbone!r} with {model.backbone.in_chans} input channels: networks take three here, gray "
            "images too (leave in_chans out of --backbone_args)"
        )


def to_harmonic(model: PreTrainedModel, args: RunArguments, *, fresh: bool) -> None:
    """Make the convolutions of a model harmonic, where the arguments ask for it.

    Args:
        fresh: its weights are random; otherwise they are kept as they are.

    Raises:
        InputError: it has none that can be, they are so already, or its weights cannot be written in that form.
    """
    network = model.backbone
    if is_harmonic(network):
        raise InputError("the model's convolutions are harmonic already: give its plain(), with --harmonic for more")
    if args.harmonic is None:
        return
    weights, batch_norm = plain_state(network), args.harmonic == "batch_norm"
    make_harmonic(network, image_size=model.config.image_size, level=args.harmonic_level, batch_norm=batch_norm)
    if not fresh:
        load_plain_state(network, weights)
    if not batch_norm and args.harmonic_level is None and args.optim == "sgd":
        logger.warning(
            "--harmonic weights without --harmonic_level: SGD trains rotated kernels as it trains plain ones"
        )


def start_weights(student: VipriorsForImageClassification, teacher: Teacher | None, args: RunArguments) -> str:
    """Fill the student from where ``student_init`` says; returns the line that says so.

    Raises:
        InputError: the weights asked for do not exist or do not fit.
    """
    start, config = args.student_init, student.config
    if start is None:
        same = teacher is not None and network_key(teacher.config) == network_key(config)
        start = "teacher" if same and METHODS[args.method].starts_from_teacher else "scratch"
    if start == "scratch":
        return f"student {config.backbone} starts from scratch"
    if start == "teacher":
        if teacher is None:
            raise InputError("--student_init teacher needs --teacher DIR")
        student.load_backbone_from(teacher)
        return f"student {config.backbone} starts from the teacher"
    student.load_backbone_from(load_ours(start, "student_init"))
    return f"student {config.backbone} starts from {start}"


def network_key(config: VipriorsConfig) -> tuple[str, dict]:
    """What makes two backbones the same one."""
    return config.backbone, config.backbone_args or {}


def log_resolved(resolved: Resolved) -> None:
    """Say what was filled in, one line each; what is always so is not said."""
    args, sources = resolved.args, resolved.sources
    if (source := sources.get("per_device_train_batch_size", "the default")) != "the default":
        logger.info("batch %d per process: %s", args.per_device_train_batch_size, source)
    if "dataloader_drop_last" in sources:
        logger.info("%s: it is left out", sources["dataloader_drop_last"])
    if args.dataloader_num_workers and "dataloader_num_workers" in sources:
        logger.info("%d workers decode the streamed images of this process", args.dataloader_num_workers)
    if "learning_rate" in sources:
        logger.info("learning rate %g = %s", args.learning_rate, sources["learning_rate"])
    else:
        logger.info("learning rate %g (as given)", args.learning_rate)
    if "queue_length" in sources:
        logger.info("queue of %d keys: %s", args.queue_length, sources["queue_length"])
