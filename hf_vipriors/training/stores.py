"""Data sets as the stores that a training reads and that its model is measured on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from datasets import Dataset

from ..data import ImageStore, PairedStore, ResizeCrop, StreamedStore, build_store, train_geometry
from ..models import VipriorsConfig
from .arguments import DataArguments

TEN_CROP_PCT = 0.875
Store = ImageStore | StreamedStore | PairedStore


def training_store(datasets: Sequence[Dataset], config: VipriorsConfig, data: DataArguments) -> Store:
    """Square images a little larger than a view, never larger than the originals."""
    geometry = train_geometry(datasets, config.image_size, config.interpolation)
    return _store_of(datasets, geometry, data, "train", reduced=True)


def evaluation_geometry(config: VipriorsConfig) -> ResizeCrop:
    """How the exported model's own preprocessing crops an image."""
    return ResizeCrop(math.floor(config.image_size / config.crop_pct), config.image_size, config.interpolation)


def evaluation_store(dataset: Dataset, config: VipriorsConfig, data: DataArguments, name: str) -> Store:
    """Images exactly as the exported model's own preprocessing crops them."""
    return _store_of(dataset, evaluation_geometry(config), data, name)


def ten_crop_store(dataset: Dataset, config: VipriorsConfig, data: DataArguments, name: str) -> Store:
    """Images larger than a crop by 1 / 0.875, for the ten crops to differ."""
    side = math.floor(config.image_size / TEN_CROP_PCT)
    return _store_of(dataset, ResizeCrop(side, side, config.interpolation), data, name)


def is_streamed(store: Store) -> bool:
    """Whether its images are decoded as they are needed."""
    return isinstance(store.store if isinstance(store, PairedStore) else store, StreamedStore)


def _store_of(images: Dataset | Sequence[Dataset], geometry: ResizeCrop, data: DataArguments, name: str, **options):
    """``build_store`` with what the user said of bad images and of memory. Every process of a launch must call it."""
    return build_store(
        images,
        geometry,
        on_bad_image=data.on_bad_image,
        memory_share=data.memory_share,
        name=name,
        every_process=True,
        **options,
    )
