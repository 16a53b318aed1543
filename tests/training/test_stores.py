"""Stores as jobs make them."""

import io

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

from hf_vipriors.data import PairedStore, TrainingSample
from hf_vipriors.hub.preprocessing import evaluation_geometry
from hf_vipriors.training import DataArguments, StudentArguments
from hf_vipriors.training.resolve import resolve
from hf_vipriors.training.stores import evaluation_store, is_streamed, ten_crop_store, training_store


def photographs(labels):
    y, x = np.mgrid[:240, :320]
    shapes = (128 + 60 * np.sin(x / 5) + 60 * np.cos(y / 7)).astype(np.uint8)
    buffer = io.BytesIO()
    PILImage.fromarray(shapes).convert("RGB").save(buffer, "JPEG")
    features = Features({"image": Image(decode=False), "label": Value("int64")})
    image = {"bytes": buffer.getvalue(), "path": None}
    return Dataset.from_dict({"image": [image] * len(labels), "label": labels}, features=features)


def test_what_is_measured_on_is_decoded_whole_and_training_images_at_a_fraction(tiny_config):
    data, config = DataArguments(), tiny_config(image_size=28, crop_pct=0.875)
    train = training_store([photographs([0, 1])], config, data)
    measured = evaluation_store(photographs([0, 1]), config, data, "test")
    ten_crop = ten_crop_store(photographs([0, 1]), config, data, "test")
    assert train.shape == ten_crop.shape == (2, 3, 32, 32)
    assert torch.equal(ten_crop.images[:, :, 2:-2, 2:-2], measured.images)
    difference = (train.images.float() - ten_crop.images.float()).abs()
    assert 0 < difference.mean() < 1.5


def small(mode):
    """Squares of noise, as PNG."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 30, 30, 3), dtype=np.uint8)
    records = []
    for each in noise:
        buffer = io.BytesIO()
        PILImage.fromarray(each).convert(mode).save(buffer, "PNG")
        records.append({"bytes": buffer.getvalue(), "path": None})
    features = Features({"image": Image(decode=False), "label": Value("int64")})
    return Dataset.from_dict({"image": records, "label": [0, 1] * 4}, features=features)


@pytest.mark.parametrize(("interpolation", "mode"), [("bilinear", "L"), ("bilinear", "RGB"), ("lanczos", "RGB")])
@pytest.mark.parametrize("memory_share", [0.5, 0.0])
def test_training_images_are_looked_at_as_evaluation_sees_them(tiny_config, interpolation, mode, memory_share):
    """Small ones, which both enlarge: with the filter of the model's own preprocessing, to the bit."""
    images, data = small(mode), DataArguments(memory_share=memory_share)
    config = tiny_config(image_size=48, crop_pct=0.875, interpolation=interpolation)
    seen = TrainingSample(training_store([images], config, data), evaluation_geometry(config))
    evaluated = evaluation_store(images, config, data, "train").__getitems__(range(8))
    assert torch.equal(seen.__getitems__(range(8))["pixel_values"], evaluated["pixel_values"])


def test_streamed_stores_start_workers_also_in_pairs(tiny_config):
    for share, workers in ((0.0, True), (0.5, False)):
        store = training_store([photographs([0, 1, -1])], tiny_config(), DataArguments(memory_share=share))
        for each in (store, PairedStore(store, 1)):
            args = StudentArguments(method="supervised", use_cpu=True)
            found = resolve(args, images=len(each), streamed=is_streamed(each))
            assert (found.args.dataloader_num_workers > 0) == workers
