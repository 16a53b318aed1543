"""Image folders: layouts, suffixes, and the mistakes people make in them."""

import numpy as np
import pytest
from PIL import Image

from hf_vipriors.data import build_store, load_splits, train_geometry
from hf_vipriors.data.columns import label_array
from hf_vipriors.errors import InputError


def put(root, *paths):
    """Write an image, whatever the suffix says, at each path below root."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(root / path, format="PNG")


def load(root):
    return load_splits("imagefolder", data_dir=str(root))


def names(loaded, split):
    return [record["path"].rsplit("/", 1)[1] for record in loaded.splits[split]["image"]]


def counts(loaded):
    return {split: len(dataset) for split, dataset in loaded.splits.items()}


@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
@pytest.mark.parametrize("unlabelled", ["unlabelled", "unlabeled"])
def test_split_folders(validation, unlabelled, tmp_path):
    for split, count in (("train", 3), (validation, 2), ("test", 1)):
        put(tmp_path, *(f"{split}/{name}/{i}.png" for name in ("dog", "cat") for i in range(count)))
    put(tmp_path, f"{unlabelled}/flat.png", f"{unlabelled}/some/where/deep.png")
    loaded = load(tmp_path)
    assert counts(loaded) == {"train": 6, "validation": 4, "test": 2, "unlabelled": 2}
    assert loaded.class_names == ["cat", "dog"]
    assert label_array(loaded.splits["train"]).tolist() == [0, 0, 0, 1, 1, 1]


def test_class_folders_directly_are_all_train(tmp_path):
    put(tmp_path, "b/1.png", "a/deeper/2.png", "unlabelled/3.png")
    loaded = load(tmp_path)
    assert counts(loaded) == {"train": 2, "unlabelled": 1}
    assert loaded.class_names == ["a", "b"] and names(loaded, "train") == ["2.png", "1.png"]
    assert any("its class folders are the train split" in note for note in loaded.notes)


def test_only_unlabelled_images(tmp_path):
    put(tmp_path, "unlabelled/1.png", "unlabelled/2.png")
    loaded = load(tmp_path)
    assert counts(loaded) == {"unlabelled": 2} and loaded.class_names == []


def test_suffixes_in_any_case_and_hidden_files(tmp_path):
    put(
        tmp_path,
        "train/a/1.JPG",
        "train/a/2.jpeg",
        "train/a/3.Png",
        "train/a/4.tiff",
        "train/a/5.webp",
        "train/b/6.bmp",
    )
    put(tmp_path, "train/a/.7.png", "train/a/.cache/8.png", "train/a/__MACOSX/9.png", ".git/10.png", "train/.c/11.png")
    (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
    loaded = load(tmp_path)
    assert names(loaded, "train") == ["1.JPG", "2.jpeg", "3.Png", "4.tiff", "5.webp", "6.bmp"]
    assert loaded.class_names == ["a", "b"]


def test_linked_folders_are_followed(tmp_path):
    put(tmp_path, "elsewhere/1.png", "photos/train/a/2.png")
    for link in ("b", "a/more"):
        (tmp_path / "photos" / "train" / link).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    loaded = load(tmp_path / "photos")
    assert label_array(loaded.splits["train"]).tolist() == [0, 0, 1]


def test_no_image_is_opened(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png")
    (tmp_path / "train" / "a" / "1.png").write_bytes(b"broken")
    loaded = load(tmp_path)
    data = loaded.splits["train"]
    with pytest.raises(InputError, match="train/a/1.png"):
        build_store(data, train_geometry(data, 4))


def test_other_folders_beside_splits_are_said(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png", "masks/1.png")
    loaded = load(tmp_path)
    assert counts(loaded) == {"train": 2} and any("passed over: masks" in note for note in loaded.notes)


def test_empty_class_folders_are_named(tmp_path):
    put(tmp_path, "train/a/1.png")
    (tmp_path / "train" / "b").mkdir()
    (tmp_path / "train" / "c").mkdir()
    (tmp_path / "train" / "c" / "readme.txt").write_text("none")
    with pytest.raises(InputError, match="no image in class folder 'b', 'c' of"):
        load(tmp_path)


def test_classes_that_differ_between_splits_are_named(tmp_path):
    put(tmp_path, "train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dgo/1.png")
    with pytest.raises(InputError, match="only validation has 'dgo'; only train has 'dog'"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["1.png"], "no class folders in"),
        (["train/1.png"], "no class folders in .*train'"),
        (["train/a/1.png", "val/a/1.png", "valid/a/1.png"], "holds both 'val' and 'valid'"),
        (["train/a/1.png", "unlabelled/a.txt"], "no image in .*unlabelled'"),
    ],
)
def test_layout_mistakes_are_one_line(paths, message, tmp_path):
    put(tmp_path, *paths)
    with pytest.raises(InputError, match=message) as raised:
        load(tmp_path)
    assert "\n" not in raised.value.on_command_line
