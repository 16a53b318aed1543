"""The layouts that a training refuses, for a job that trains nothing."""

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hf_vipriors.errors import InputError
from hf_vipriors.inference.any_layout import every_split
from hf_vipriors.inference.embed import main
from hf_vipriors.training import DataArguments
from hf_vipriors.training.load_images import load_images


@pytest.fixture
def folder(tmp_path):
    """``folder("1.png", "cat/2.png")``: a folder of such images."""

    def make(*paths):
        for number, path in enumerate(paths):
            file = tmp_path / "photos" / path
            (file if path.endswith("/") else file.parent).mkdir(parents=True, exist_ok=True)
            if path.endswith("/"):
                continue
            Image.fromarray(np.full((20, 20, 3), number, dtype=np.uint8)).save(file)
        return tmp_path / "photos"

    return make


def test_a_folder_that_is_named_as_the_data_set(folder):
    root = folder("1.png", "2.png")
    assert len(every_split(DataArguments(dataset_name=str(root))).splits["unlabelled"]) == 2


def test_captions_tell_no_class(folder):
    root = folder("1.png", "2.png")
    (root / "metadata.csv").write_text("file_name,text\n1.png,a cat\n2.png,a dog\n")
    assert len(every_split(DataArguments(data_dir=str(root))).splits["unlabelled"]) == 2


def test_a_link_adds_no_image_twice(folder):
    root = folder("train/cat/1.png", "train/dog/2.png")
    (root / "latest").symlink_to(root / "train")
    splits = every_split(DataArguments(data_dir=str(root))).distinct
    assert sum(len(images) for images in splits.values()) == 2


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["train/cat/1.png", "train/dog/2.png", "test/3.png"], "no class folders in .*test"),
        (["cat/1.png", "dog/2.png", "bird/"], "no image in class folder 'bird'"),
    ],
)
def test_labels_that_are_known_are_not_lost_in_a_layout_that_is_odd(paths, words, folder):
    root = folder(*paths)
    with pytest.raises(InputError, match=words):
        every_split(DataArguments(data_dir=str(root)))


CARVED = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(4)]


@pytest.mark.parametrize(
    ("paths", "wanted"),
    [
        (["1.png", "2.png"], {("unlabelled", None): 2}),
        (["1.png", "2.png", "cat/3.png"], {("train", "cat"): 1, ("unlabelled", None): 2}),
        (["cat/1.png", "dog/2.png"], {("train", "cat"): 1, ("train", "dog"): 1}),
        (["test/cat/1.png", "test/a/2.png", "3.png"], {("test", "cat"): 1, ("test", "a"): 1, ("unlabelled", None): 1}),
        (["train/1.png", "train/2.png"], {("unlabelled", None): 2}),
        (["1.png", "notes/"], {("unlabelled", None): 1}),
        (["unlabelled/1.png", "2.png"], {("unlabelled", None): 2}),
        (
            [*CARVED, "loose.png"],
            {(split, name): n for split, n in (("train", 3), ("validation", 1)) for name in ("cat", "dog")}
            | {("unlabelled", None): 1},
        ),
    ],
)  # fmt: skip
def test_no_image_is_lost_and_no_label_that_is_known(paths, wanted, folder):
    splits = every_split(DataArguments(data_dir=str(folder(*paths))))
    found = Counter(
        (split, splits.class_names[row["label"]] if "label" in row else None)
        for split, images in splits.distinct.items()
        for row in images
    )
    assert found == wanted
    names = sorted(row["image"]["path"] for images in splits.distinct.values() for row in images)
    assert len(set(names)) == sum(not path.endswith("/") for path in paths) == len(names)


def test_with_options_that_choose_images_it_is_as_in_a_training(folder):
    data = DataArguments(data_dir=str(folder(*CARVED, "loose.png")), images_per_class=2)
    found, wanted = every_split(data), load_images(data)
    assert {name: images["image"][:] for name, images in found.splits.items()} == {
        name: images["image"][:] for name, images in wanted.splits.items()
    }
    with pytest.raises(InputError, match="only one class"):
        every_split(DataArguments(data_dir=str(folder("one/cat/1.png") / "one"), images_per_class=1))


@pytest.mark.parametrize("name", ["metadata.csv", "labels.csv"])
def test_a_table_that_does_not_fit_is_refused_as_before(name, folder, tmp_path):
    root = folder("1.png", "2.png")
    (root / name).write_text("file_name,label\nnowhere.png,cat\n")
    with pytest.raises(InputError, match="nowhere.png"):
        every_split(DataArguments(data_dir=str(root), labels=name if name == "labels.csv" else None))


def test_features_of_loose_images_beside_one_class(folder, teacher_folder, tmp_path, capsys):
    root, output = folder("1.png", "2.png", "cat/3.png"), tmp_path / "features.parquet"
    main(["--model", str(teacher_folder), "--data_dir", str(root), "--output", str(output), "--device", "cpu"])
    rows = {row["path"]: row for row in pq.read_table(output).to_pylist()}
    assert {path: (row["split"], row["label"]) for path, row in rows.items()} == {
        str(root / "1.png"): ("unlabelled", None),
        str(root / "2.png"): ("unlabelled", None),
        str(root / "cat" / "3.png"): ("train", "cat"),
    }
    assert all(np.isfinite(row["vector"]).all() for row in rows.values())
    assert "features in" in (said := " ".join(capsys.readouterr().err.split())) and "only one class, 'cat'" in said
