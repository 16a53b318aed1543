"""Data sets as the stores that a training reads and that its model is measured on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from datasets import Dataset
from transformers.trainer_utils import IntervalStrategy

from ..data import (
    ImageSplits,
    ImageStore,
    PairedStore,
    ResizeCrop,
    StreamedStore,
    build_store,
    sample,
    train_geometry,
)
from ..data.columns import label_array, some
from ..errors import InputError
from ..hub.preprocessing import evaluation_geometry
from ..methods import METHODS
from ..models import VipriorsConfig
from .arguments import RunArguments
from .data_arguments import DataArguments

TEN_CROP_PCT = 0.875
# Images without labels that features are measured on, where none has one: more cost seconds and tell the same.
SAMPLE = 1000
Store = ImageStore | StreamedStore | PairedStore


def decode_images(
    splits: ImageSplits, config: VipriorsConfig, args: RunArguments, data: DataArguments
) -> dict[str, Store]:
    """What is trained on and what is measured on, see :class:`~hf_vipriors.training.setup.Setup`.

    Without a single label, or where all are learnt from, features are measured on some of the images that they are
    learnt from.

    Raises:
        InputError: images without labels are asked for, and there are none.
    """
    found = splits.splits
    if METHODS[args.method].job != "student":
        pool = [found[name] for name in ("train", "unlabelled") if name in found]
        stores = {"train": training_store(pool, config, data)}
        scored, note = {"bank": "train", "validation": "validation"}, ", for kNN"
        if "train" not in found or nothing_apart(splits, data):
            note = ", for the rank of the features"
            if args.eval_strategy == IntervalStrategy.NO:
                found = {}  # nobody looks at them
            elif "validation" not in found:
                found = {"validation": sample(found.get("unlabelled", found.get("train")), SAMPLE)}
    else:
        stores = {"train": _labelled_store(splits, config, args, data)}
        scored, note = {"validation": "validation", "test": "test"}, ""
    for name, split in scored.items():
        if split in found:
            stores[name] = evaluation_store(found[split], config, data, f"{split}{note}")
    return stores


def nothing_apart(splits: ImageSplits, data: DataArguments) -> bool:
    """Whether all labels are learnt from because a person asked for that."""
    return data.validation_share == 0 and "validation" not in splits.splits


def _labelled_store(splits: ImageSplits, config: VipriorsConfig, args: RunArguments, data: DataArguments) -> Store:
    """Labelled images, and where they are asked for those without labels beside them, or for the end."""
    pools = [splits.splits["train"]]
    reads = METHODS[args.method].reads_unlabelled(args)
    if reads:
        if "unlabelled" not in splits.splits:
            raise InputError(
                "no images without labels: --unlabelled split (the data set's own) or rest (those not chosen), or "
                "--unlabelled_ratio 0 and --propagate_labels false"
            )
        pools.append(splits.splits["unlabelled"])
    store = training_store(pools, config, data)
    return PairedStore(store, args.unlabelled_ratio) if reads else store


def training_store(datasets: Sequence[Dataset], config: VipriorsConfig, data: DataArguments) -> Store:
    """Square images a little larger than a view, never larger than the originals."""
    geometry = train_geometry(datasets, config.image_size, config.interpolation)
    return _store_of(datasets, geometry, config, data, "train", reduced=True)


def evaluation_store(dataset: Dataset, config: VipriorsConfig, data: DataArguments, name: str) -> Store:
    """Images exactly as the exported model's own preprocessing crops them."""
    return _store_of(dataset, evaluation_geometry(config), config, data, name)


def ten_crop_store(dataset: Dataset, config: VipriorsConfig, data: DataArguments, name: str) -> Store:
    """Images larger than a crop by 1 / 0.875, for the ten crops to differ."""
    side = math.floor(config.image_size / TEN_CROP_PCT)
    return _store_of(dataset, ResizeCrop(side, side, config.interpolation), config, data, name)


def check_classes_left(stores: Mapping[str, Store], splits: ImageSplits) -> None:
    """Refuse to train where leaving out unreadable images has left a class of train without any.

    Args:
        stores: of a run; the labelled images are ``"bank"`` of a teacher, else ``"train"``.
        splits: the images of the run.

    Raises:
        InputError: naming the classes.
    """
    if "train" not in splits.splits:
        return
    left = set(stores.get("bank", stores["train"]).labels.tolist())
    gone = set(label_array(splits.splits["train"]).tolist()) - left
    if gone:
        names = some(splits.class_names[label] for label in sorted(gone))
        raise InputError(
            f"class {names} has no train image that can be read (--on_bad_image skip): mend one, or drop the class"
        )


def is_streamed(store: Store) -> bool:
    """Whether its images are decoded as they are needed."""
    return isinstance(store.store if isinstance(store, PairedStore) else store, StreamedStore)


def full_scale(config: VipriorsConfig, data: DataArguments) -> float | None:
    """Of wide gray images: what was given, or else the model's own, for it must see them as in its training.

    Raises:
        InputError: the two differ.
    """
    if None not in (config.full_scale, data.full_scale) and config.full_scale != data.full_scale:
        raise InputError(
            f"--full_scale {data.full_scale:g}: the model {config.backbone!r} was trained with {config.full_scale:g}, "
            "give that or leave it out"
        )
    return config.full_scale if data.full_scale is None else data.full_scale


def _store_of(
    images: Dataset | Sequence[Dataset],
    geometry: ResizeCrop,
    config: VipriorsConfig,
    data: DataArguments,
    name: str,
    **options: bool,
) -> ImageStore | StreamedStore:
    """``build_store`` with what the user said of images and of memory. Every process of a launch must call it."""
    return build_store(
        images,
        replace(geometry, full_scale=full_scale(config, data)),
        on_bad_image=data.on_bad_image,
        memory_share=data.memory_share,
        name=name,
        every_process=True,
        **options,
    )
