"""A small folder of images that can be learnt, and the options that keep a run short."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

TINY = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4}
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220)}


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """imagefolder: 3 classes of coloured noise; 12 training, 4 validation, 4 test images each, 10 unlabelled."""
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


@pytest.fixture(scope="session")
def common(photos):
    """Options every tiny run shares."""
    return [
        *("--dataset_name", "imagefolder", "--data_dir", str(photos), "--use_cpu", "--disable_tqdm", "true"),
        *("--image_size", "32", "--backbone", "resnet18", "--backbone_args", json.dumps(TINY)),
    ]


@pytest.fixture(scope="session")
def teacher_options(common):
    return [*common, "--per_device_train_batch_size", "8", "--num_train_epochs", "2", "--projector_dim", "8"]


@pytest.fixture(scope="session")
def student_options(common):
    return [*common, "--per_device_train_batch_size", "6", "--num_train_epochs", "2"]


@pytest.fixture(scope="session")
def teacher_folder(teacher_options, tmp_path_factory):
    """A finished tiny teacher, trained once for all tests that need one."""
    from hf_vipriors.cli.teacher import main

    folder = tmp_path_factory.mktemp("teachers") / "teacher"
    main([*teacher_options, "--output_dir", str(folder)])
    return folder


@pytest.fixture(scope="session")
def classifier_folder(student_options, tmp_path_factory):
    """A tiny classifier to distil from, trained once; it is right about many images, but not about all."""
    from hf_vipriors.cli.student import main

    folder = tmp_path_factory.mktemp("classifiers") / "classifier"
    main([*student_options, "--method", "supervised", "--save_strategy", "no", "--output_dir", str(folder)])
    return folder


@pytest.fixture(scope="session")
def contents():
    """``contents(folder)``: every file in it by path, as bytes."""
    return lambda folder: {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def card_settings():
    """``card_settings(folder)``: the settings that the card beside a model lists."""

    def read(folder):
        table = (folder / "README.md").read_text().split("| setting | value |")[1].split("</details>")[0]
        rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
        return {name: value for name, value in rows if name != "---"}

    return read
