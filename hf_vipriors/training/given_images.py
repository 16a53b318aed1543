"""From what a person hands to a trainer, as to any ``transformers.Trainer``, to a setup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import datasets
from torch import nn
from transformers import PreTrainedModel

from ..data import ImageSplits, PairedStore, splits_of
from ..errors import InputError
from ..hub.teachers import Teacher
from ..methods import METHODS, Method
from ..models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from .arguments import RunArguments
from .data_arguments import DataArguments
from .resolve import resolve
from .setup import Setup, is_streamed, set_up
from .stores import Store
from .teacher_checks import check_teacher_given

Images = datasets.Dataset | Store


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
    splits, stores = _images(train, validation, unlabelled, bank, data, class_names)
    if isinstance(model, Method):
        return _built(model, args, data, splits, stores, views)
    if isinstance(teacher, str):
        args, teacher = replace(args, teacher=teacher), None
    if teacher is None:
        check_teacher_given(args)
    elif METHODS[args.method].teacher_kind == "none":
        raise InputError(f"--method {args.method} has no teacher: leave it out")
    args, network = _network(model, args)
    setup = set_up(args, data, splits, teacher=_checked_teacher(teacher), network=network, stores=stores)
    return replace(setup, title=_title(train))


def _images(
    train: Images,
    validation: Images | None,
    unlabelled: Images | None,
    bank: Store | None,
    data: DataArguments,
    class_names: Sequence[str] | None,
) -> tuple[ImageSplits, dict[str, Store] | None]:
    """Data sets as splits, or stores as they are."""
    given = {"train": train, "validation": validation, "unlabelled": unlabelled}
    given = {name: images for name, images in given.items() if images is not None}
    tables = [name for name, images in given.items() if isinstance(images, datasets.Dataset)]
    if len(tables) == len(given):
        columns = {"image_column": data.image_column, "label_column": data.label_column}
        return splits_of(given, "train_dataset", **columns), None
    if tables:
        raise InputError(f"{', '.join(tables)} are data sets, the others are image stores: give one kind")
    if unlabelled is not None:
        raise InputError("image stores: put unlabelled images into a PairedStore beside the labelled ones")
    names = list(class_names or [f"class {number}" for number in range(int(_labels(train).max(initial=-1)) + 1)])
    stores = {name: images for name, images in given.items() if name != "unlabelled"}
    return ImageSplits({}, names), stores | ({"bank": bank} if bank is not None else {})


def _title(images: Images) -> str:
    """What a card calls images that were handed over."""
    known = images.info.dataset_name if isinstance(images, datasets.Dataset) else None
    return known or "images given to the trainer"


def _labels(store: Store) -> Any:
    return (store.store if isinstance(store, PairedStore) else store).labels.numpy()


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
    return Setup(args, resolved, data, splits, stores, method, views, repeatable=False, title=_title(stores["train"]))


def _network(
    model: str | VipriorsConfig | PreTrainedModel | None, args: RunArguments
) -> tuple[RunArguments, PreTrainedModel | None]:
    """The arguments with the network that ``model`` names or describes; or the network itself."""
    if model is None:
        return args, None
    if isinstance(model, str):
        return replace(args, backbone=model), None
    if isinstance(model, VipriorsConfig):
        fields = {"backbone": model.backbone, "backbone_args": model.backbone_args, "image_size": model.image_size}
        fields["crop_pct"] = model.crop_pct
        if METHODS[args.method].job != "student" and model.projector_dim is not None:
            fields |= {name: getattr(model, name) for name in ("projector_dim", "projector_hidden_dim")}
            fields["projector_batch_norm"] = model.projector_batch_norm
        return replace(args, **fields), None
    wanted = VipriorsForImageClassification if METHODS[args.method].job == "student" else VipriorsModel
    if not isinstance(model, wanted):
        raise InputError(
            f"model is a {type(model).__name__}, and --method {args.method} trains a {wanted.__name__}: give one, a "
            "VipriorsConfig, or the name of a timm network"
        )
    return args, model


def _checked_teacher(teacher: PreTrainedModel | None) -> Teacher | None:
    if teacher is None or isinstance(teacher, VipriorsModel | VipriorsForImageClassification):
        return teacher
    raise InputError(f"teacher is a {type(teacher).__name__}: give a folder, a Hub id, or what load_teacher() gives")
