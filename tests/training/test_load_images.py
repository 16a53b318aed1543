"""Which images a run may use, as its options choose them."""

import shutil

import numpy as np
import pytest

from hf_vipriors.data import load_splits
from hf_vipriors.errors import InputError
from hf_vipriors.evaluation.choosing import most_typical
from hf_vipriors.evaluation.features import features
from hf_vipriors.hub.teachers import load_teacher
from hf_vipriors.training import DataArguments
from hf_vipriors.training.load_images import load_images
from hf_vipriors.training.stores import evaluation_store

TEACHER = "fashion-vipriors-teacher"


def test_a_teacher_chooses_the_most_typical_images_as_label_next_does():
    data = DataArguments(images_per_class=2, choose_with=TEACHER, subset_seed=1)
    chosen = load_images(data)
    teacher, train = load_teacher(TEACHER), load_splits(data.dataset_name).splits["train"]
    seen = features(teacher, evaluation_store(train, teacher.config, data, "train"), device="cpu").values
    expected = train.select(np.sort(most_typical(seen, 20, seed=1)[0]))
    assert chosen.splits["train"]["origin"] == expected["origin"] and len(expected) == 20
    others = [
        load_images(DataArguments(images_per_class=2, subset_seed=1)),
        load_images(DataArguments(images_per_class=2, choose_with=TEACHER)),
    ]
    assert all(each.splits["train"]["origin"] != expected["origin"] for each in others)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "images_per_class times the classes: give that too"),
        ({"images_per_class": 2, "imbalance": 4.0}, "does not ask for classes, .* leave those out"),
        ({"images_per_class": 2, "label_noise": 0.1}, "does not ask for classes, .* leave those out"),
    ],
)
def test_whoever_chooses_must_know_how_many_and_asks_for_no_classes(options, message):
    with pytest.raises(InputError, match=message):
        DataArguments(choose_with=TEACHER, **options)


def test_an_image_that_cannot_be_read_would_move_the_choice_and_is_refused(photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    next((folder / "train").rglob("*.png")).write_bytes(b"no image")
    data = DataArguments(data_dir=str(folder), images_per_class=1, choose_with=TEACHER, on_bad_image="skip")
    with pytest.raises(InputError, match="1 of the training images cannot be read"):
        load_images(data)


def test_no_teacher_of_that_name():
    with pytest.raises(InputError, match="choose_with"):
        load_images(DataArguments(images_per_class=2, choose_with="no/such/folder"))
