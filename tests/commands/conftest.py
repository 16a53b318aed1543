"""A small folder of pictures that can be learnt, and the options that keep a run short."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

TINY = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4}
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220)}


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """imagefolder: 3 classes of coloured noise; 12 training, 4 validation, 4 test pictures each, 10 unlabelled."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)

    def write(path, colour):
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = random.normal(0, 30, size=(20, 26, 3))
        Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)

    for name, colour in COLOURS.items():
        for split, count in (("train", 12), ("validation", 4), ("test", 4)):
            for number in range(count):
                write(root / split / name / f"{number}.png", colour)
    for number in range(10):
        write(root / "unlabelled" / f"{number}.png", list(COLOURS.values())[number % 3])
    return root


@pytest.fixture
def common(photos):
    """Options every tiny run shares."""
    return [
        *("--dataset_name", "imagefolder", "--data_dir", str(photos), "--use_cpu", "--disable_tqdm", "true"),
        *("--image_size", "32", "--backbone", "resnet18", "--backbone_args", json.dumps(TINY)),
    ]


@pytest.fixture
def teacher_options(common):
    return [*common, "--per_device_train_batch_size", "8", "--num_train_epochs", "2", "--projector_dim", "8"]


@pytest.fixture
def student_options(common):
    return [*common, "--per_device_train_batch_size", "6", "--num_train_epochs", "2"]


@pytest.fixture(scope="session")
def teacher_folder(photos, tmp_path_factory):
    """A finished tiny teacher, trained once for all tests that need one."""
    from hf_vipriors.commands.train_teacher import main

    folder = tmp_path_factory.mktemp("teachers") / "teacher"
    main(
        [
            *("--dataset_name", "imagefolder", "--data_dir", str(photos), "--use_cpu", "--disable_tqdm", "true"),
            *("--image_size", "32", "--backbone", "resnet18", "--backbone_args", json.dumps(TINY)),
            *("--per_device_train_batch_size", "8", "--num_train_epochs", "2", "--projector_dim", "8"),
            *("--output_dir", str(folder)),
        ]
    )
    return folder
