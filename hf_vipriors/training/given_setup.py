"""From what a person hands to a trainer, as to any ``transformers.Trainer``, to a setup."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from ..data import ImageSplits, numbered_as
from ..errors import InputError
from ..hub.teachers import Teacher
from ..methods import METHODS, Method
from ..models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from .arguments import RunArguments
from .data_arguments import DataArguments
from .given_images import Images, check_images, splits_and_stores, title_of
from .resolve import complete, resolve
from .setup import Setup, is_streamed, set_up
from .stores import Store
from .student_arguments import StudentArguments
from .teacher_checks import check_teacher_given

logger = logging.getLogger(__name__)
# Of DataArguments: the others say which images to load.
READ = ("image_column", "label_column", "on_bad_image", "full_scale", "memory_share", "store")


def refuse_given(**arguments: tuple[Any, str]) -> None:
    """Refuse what other trainers take and ours cannot: name -> (value, the reason).

    Raises:
        InputError: one of them was given.

    Example:
        >>> refuse_given(data_collator=(None, "images are collated as a whole batch"))
    """
    for name, (value, reason) in arguments.items():
        if value is not None:
            raise InputError(f"{name} cannot be given: {reason}")


def setup_from_arguments(
    model: str | VipriorsConfig | PreTrainedModel | Method | None,
    args: RunArguments,
    data: DataArguments,
    *,
    train: Images | None,
    validation: Images | None,
    unlabelled: Images | None,
    teacher: str | PreTrainedModel | None,
    views: nn.Module | None,
    bank: Store | None,
    class_names: Sequence[str] | None,
) -> Setup:
    """The setup of a trainer; see :class:`hf_vipriors.training.trainer.MethodTrainer` for the arguments.

    Raises:
        InputError: on whatever cannot work.
    """
    if train is None:
        raise InputError("train_dataset is missing: what is the network to be trained on?")
    given = {"train_dataset": train, "eval_dataset": validation, "unlabelled_dataset": unlabelled}
    given = {name: check_images(images, name) for name, images in given.items() if images is not None}
    _check_read(args, data, given)
    if isinstance(model, Method):
        splits, stores = splits_and_stores(given, bank, args, data, class_names)
        return _built(model, args, data, splits, stores, views)
    args, teacher = _teacher(teacher, args)
    args, network = _network(model, args)
    splits, stores = splits_and_stores(given, bank, args, data, class_names)
    splits = _classes_of(model, splits)
    for note in splits.notes:
        logger.info(note)
    setup = set_up(args, data, splits, teacher=teacher, network=network, stores=stores)
    # Of a model that a student only starts from nothing is left to start from again.
    repeatable = setup.repeatable and (teacher is None or bool(setup.method.teachers()))
    return replace(setup, title=title_of(train), repeatable=repeatable)


def _check_read(args: RunArguments, data: DataArguments, given: dict[str, Images]) -> None:
    """Refuse what a person set and nothing would read."""
    defaults = DataArguments()
    idle = [f.name for f in fields(data) if f.name not in READ and getattr(data, f.name) != getattr(defaults, f.name)]
    if idle:
        raise InputError(f"data: {', '.join(idle)} choose among images that are loaded by name; here they are given")
    if isinstance(args, StudentArguments) and (args.trials or args.settings_of):
        raise InputError("trials and settings_of are of the command; a trainer has hyperparameter_search()")
    if args.push_to_hub:
        logger.warning(
            "push_to_hub: train() and save_model() send nothing; call trainer.push_to_hub() when it is done"
        )
    if args.load_best_model_at_end and "eval_dataset" not in given:
        raise InputError("load_best_model_at_end needs eval_dataset: the best on what?")
    if "unlabelled_dataset" in given and METHODS[args.method].job == "student":
        if not METHODS[args.method].reads_unlabelled(complete(args).args):
            raise InputError(
                f"method {args.method!r} as it is set here would not read unlabelled_dataset: leave it out, use "
                "method 'fixmatch', or set propagate_labels, or unlabelled_ratio with one that distils predictions"
            )


def _teacher(teacher: str | PreTrainedModel | None, args: RunArguments) -> tuple[RunArguments, Teacher | None]:
    """The arguments with the teacher that is named, or a copy of the one that was handed over: a teacher is frozen."""
    if teacher is None:
        check_teacher_given(args)
        return args, None
    if METHODS[args.method].teacher_kind == "none":
        raise InputError(f"--method {args.method} has no teacher: leave it out")
    if args.teacher not in (None, teacher):
        raise InputError(f"two teachers, one of them in the arguments ({args.teacher!r}): give one")
    if isinstance(teacher, str):
        return replace(args, teacher=teacher), None
    if not isinstance(teacher, VipriorsModel | VipriorsForImageClassification):
        raise InputError(
            f"teacher is a {type(teacher).__name__}: give a folder, a Hub id, or what load_teacher() gives"
        )
    return args, copy.deepcopy(teacher)


def _classes_of(model: Any, splits: ImageSplits) -> ImageSplits:
    """The images with their classes numbered as a classifier has them that is trained on, if it names them.

    Raises:
        InputError: images of other classes, or another number of them.
    """
    if isinstance(model, VipriorsConfig):
        config, whose = model, "the VipriorsConfig"
    elif isinstance(model, VipriorsForImageClassification):
        config, whose = model.config, "the model"
    else:
        return splits
    if not all(name.startswith("LABEL_") for name in config.class_names):
        return numbered_as(splits, config.class_names, whose) if splits.splits else splits
    if isinstance(model, VipriorsForImageClassification) and config.num_labels != len(splits.class_names):
        raise InputError(
            f"the model has {config.num_labels} outputs, the images {len(splits.class_names)} classes: give the name "
            "of its timm network, and it as teacher, for a classifier of these classes"
        )
    return splits


def _built(
    method: Method,
    args: RunArguments,
    data: DataArguments,
    splits: ImageSplits,
    stores: dict[str, Store] | None,
    views: nn.Module | None,
) -> Setup:
    """Of a method that is built already: its images must be stores, and its views are given or follow from it."""
    if stores is None:
        raise InputError("a method that is built already is trained on image stores: give these, or its network")
    if args.harmonic is not None:
        raise InputError("--harmonic changes a network before its method is built: give the network, not the method")
    resolved = resolve(
        args,
        images=len(stores["train"]),
        streamed=is_streamed(stores["train"]),
        evaluates="validation" in stores,
    )
    views = views or METHODS[args.method].views(resolved.args, method.deployable().config)
    return Setup(
        args,
        resolved,
        data,
        splits,
        stores,
        method,
        views,
        taught=bool(method.teachers()),
        repeatable=False,
        title=title_of(stores["train"]),
    )


def _network(
    model: str | VipriorsConfig | PreTrainedModel | None, args: RunArguments
) -> tuple[RunArguments, PreTrainedModel | None]:
    """The arguments with the network that ``model`` names or describes; or the network itself."""
    if model is None:
        return args, None
    if isinstance(model, str):
        if Path(model).is_dir():
            raise InputError(
                f"model {model!r} is a folder: give load_teacher({model!r}) of hf_vipriors.hub.teachers to train its "
                "network on, or give it as teacher to start from its backbone"
            )
        return replace(args, backbone=model), None
    if isinstance(model, VipriorsConfig):
        _check_as_timm(model)
        return _described(model, args), None
    wanted = VipriorsForImageClassification if METHODS[args.method].job == "student" else VipriorsModel
    if not isinstance(model, wanted):
        raise InputError(
            f"model is a {type(model).__name__}, and --method {args.method} trains a {wanted.__name__}: give one, a "
            "VipriorsConfig, the name of a timm network, or of a finished run what load_teacher(folder) gives"
        )
    return _described(model.config, args), model


def _described(config: VipriorsConfig, args: RunArguments) -> RunArguments:
    """The arguments, saying of the network what is so."""
    known = {"backbone": config.backbone, "backbone_args": config.backbone_args, "image_size": config.image_size}
    known["crop_pct"] = config.crop_pct
    if METHODS[args.method].job != "student" and config.projector_dim is not None:
        known |= {name: getattr(config, name) for name in ("projector_dim", "projector_hidden_dim")}
        known["projector_batch_norm"] = config.projector_batch_norm
    return replace(args, **known)


def _check_as_timm(config: VipriorsConfig) -> None:
    """A network that is made anew normalises as timm recommends for it.

    Raises:
        InputError: the configuration says otherwise.
    """
    usual = VipriorsConfig.for_backbone(config.backbone, image_size=config.image_size)
    names = ("image_mean", "image_std", "interpolation")
    if odd := [name for name in names if getattr(config, name) != getattr(usual, name)]:
        raise InputError(
            f"VipriorsConfig: {', '.join(odd)} differ from what timm has for {config.backbone}, which a new network "
            "gets: VipriorsConfig.for_backbone() fills them; for others give a model of this configuration"
        )
    if config.full_scale is not None:
        raise InputError("VipriorsConfig: full_scale belongs to the images: data=DataArguments(full_scale=...)")
