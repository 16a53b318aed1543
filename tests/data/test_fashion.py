"""The shipped parquet files: counts, no image twice, and that `datasets` loads them offline."""

import hashlib
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image

from hf_vipriors.data import fashion_files, load_splits
from hf_vipriors.data.fashion import FASHION_CLASSES

COUNTS = {"train": 500, "validation": 500, "test": 2000, "unlabelled": 5000}


@pytest.fixture(scope="module")
def loaded():
    return load_splits("fashion-vipriors")


def pixel_hashes(dataset):
    return [
        hashlib.sha256(np.asarray(Image.open(io.BytesIO(record["bytes"]))).tobytes()).hexdigest()
        for record in dataset["image"]
    ]


def test_no_image_stands_in_two_splits_or_twice_in_one(loaded):
    hashes = [digest for dataset in loaded.splits.values() for digest in pixel_hashes(dataset)]
    assert len(hashes) == sum(COUNTS.values())
    assert [digest for digest, count in Counter(hashes).items() if count > 1] == []


def test_counts_are_the_protocols_and_balanced(loaded):
    assert {split: len(dataset) for split, dataset in loaded.splits.items()} == COUNTS
    assert loaded.class_names == list(FASHION_CLASSES)
    for split, each in {"train": 50, "validation": 50, "test": 200}.items():
        assert Counter(loaded.splits[split]["label"]) == {label: each for label in range(10)}
    assert "label" not in loaded.splits["unlabelled"].column_names


def test_test_images_come_from_the_original_test_file_and_no_others(loaded):
    for split, dataset in loaded.splits.items():
        origins = {record["path"].rsplit("-", 1)[0] for record in dataset["image"]}
        assert origins == {"t10k" if split == "test" else "train"}


def test_images_are_28_px_grey_photographs(loaded):
    for dataset in loaded.splits.values():
        image = Image.open(io.BytesIO(dataset[0]["image"]["bytes"]))
        assert (image.format, image.mode, image.size) == ("PNG", "L", (28, 28))
        assert np.asarray(image).std() > 20


def test_datasets_loads_the_files_with_their_features(tmp_path):
    files = fashion_files()
    for split in ("train", "unlabelled"):
        dataset = load_dataset("parquet", data_files={split: files[split]}, split=split, cache_dir=str(tmp_path))
        assert dataset[0]["image"].size == (28, 28)
        assert ("label" in dataset.features) == (split == "train")
    assert sum(Path(file).stat().st_size for file in files.values()) < 6 * 2**20


def test_datasets_loads_the_folder_by_its_card(tmp_path):
    folder = str(Path(fashion_files()["train"]).parent)
    labelled = load_dataset(folder, cache_dir=str(tmp_path))
    assert {split: dataset.num_rows for split, dataset in labelled.items()} == {
        split: count for split, count in COUNTS.items() if split != "unlabelled"
    }
    assert load_dataset(folder, "unlabelled", cache_dir=str(tmp_path))["unlabelled"].num_rows == COUNTS["unlabelled"]


def test_the_notice_lies_beside_the_images():
    notice = (Path(fashion_files()["train"]).parent / "LICENSE").read_text()
    assert "Copyright (c) 2017 Zalando SE" in notice and "Permission is hereby granted, free of charge" in notice
