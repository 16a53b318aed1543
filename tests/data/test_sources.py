"""Every way to name a data set, and how its columns, labels and splits are understood."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage

from hf_vipriors.data import load_splits
from hf_vipriors.data.columns import label_array
from hf_vipriors.errors import InputError

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets-cache")


def picture():
    return PILImage.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8))


def table(labels, *, image="image", label="label", names=None, kind="int64"):
    """A data set with one image a label; labels None for none."""
    features = {image: Image()}
    columns = {image: [picture() for _ in range(labels if isinstance(labels, int) else len(labels))]}
    if not isinstance(labels, int):
        columns[label] = labels
        features[label] = ClassLabel(names=names) if names else Value(kind)
    return Dataset.from_dict(columns, features=Features(features))


def saved(tmp_path, dataset, name="saved"):
    dataset.save_to_disk(str(tmp_path / name))
    return str(tmp_path / name)


def counts(loaded):
    return {split: len(dataset) for split, dataset in loaded.splits.items()}


def load_dict(tmp_path, splits, **options):
    return load_splits(saved(tmp_path, DatasetDict(splits)), **options)


# --- what may be named --------------------------------------------------------------------------------------------


def test_every_split_has_undecoded_images_origin_and_int64_labels(tmp_path):
    loaded = load_dict(tmp_path, {"train": table([0, 1], names=["a", "b"]), "unlabelled": table(3)})
    assert loaded.splits["train"].features == {
        "image": Image(decode=False),
        "origin": Value("string"),
        "label": Value("int64"),
    }
    assert loaded.splits["unlabelled"].features == {"image": Image(decode=False), "origin": Value("string")}
    assert loaded.splits["unlabelled"]["origin"][:] == [f"unlabelled row {row}" for row in range(3)]


def test_fashion_vipriors_is_embedded():
    loaded = load_splits("fashion-vipriors")
    assert counts(loaded) == {"train": 500, "validation": 500, "test": 2000, "unlabelled": 5000}
    assert "fashion-vipriors: train 500, validation 500, test 2000, unlabelled 5000 images" in loaded.notes
    assert "image column 'image' in train, validation, test, unlabelled; label column 'label' in train" in " ".join(
        loaded.notes
    )


def test_a_saved_single_dataset_is_train(tmp_path):
    loaded = load_splits(saved(tmp_path, table([0, 1, 0], names=["a", "b"])))
    assert counts(loaded) == {"train": 3} and loaded.class_names == ["a", "b"]


def test_a_saved_selection_keeps_images_and_labels_together(tmp_path):
    whole = table([0, 1, 2, 0, 1, 2], names=["a", "b", "c"])
    loaded = load_splits(saved(tmp_path, whole.select([5, 0, 4])))
    assert label_array(loaded.splits["train"]).tolist() == [2, 0, 1]


@pytest.mark.parametrize("alias", ["validation", "val", "valid", "dev", "Validation"])
def test_split_aliases(alias, tmp_path):
    data = table([0, 1], names=["a", "b"])
    assert counts(load_dict(tmp_path, {"train": data, alias: data})) == {"train": 2, "validation": 2}


def test_unknown_splits_are_passed_over_and_said(tmp_path):
    data = table([0, 1], names=["a", "b"])
    loaded = load_dict(tmp_path, {"train": data, "fold7": data})
    assert counts(loaded) == {"train": 2} and "splits passed over: fold7" in loaded.notes
    with pytest.raises(InputError, match="none of the splits 'fold7' is called 'train'"):
        load_splits(saved(tmp_path, DatasetDict({"fold7": data}), "other"))


def test_parquet_by_file_name_prefix(tmp_path):
    folder = tmp_path / "parquet" / "data"
    folder.mkdir(parents=True)
    data = table([0, 1], names=["a", "b"])
    for name in ("train-00000-of-00002", "train-00001-of-00002", "val_0", "test"):
        data.to_parquet(str(folder / f"{name}.parquet"))
    table(3).to_parquet(str(folder / "unlabeled.parquet"))
    expected = {"train": 4, "validation": 2, "test": 2, "unlabelled": 3}
    assert counts(load_splits(str(tmp_path / "parquet"))) == expected
    assert counts(load_splits("parquet", data_dir=str(folder))) == expected


def test_parquet_by_subfolder_and_single_file(tmp_path):
    for folder in ("train", "test", ".hidden"):
        (tmp_path / folder).mkdir()
        table([0, 1], names=["a", "b"]).to_parquet(str(tmp_path / folder / "0000.parquet"))
    assert counts(load_splits(str(tmp_path))) == {"train": 2, "test": 2}
    assert counts(load_splits(str(tmp_path / "test" / "0000.parquet"))) == {"train": 2}


def test_parquet_that_is_none_is_one_line(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot load train of") as raised:
        load_splits(str(tmp_path))
    assert "\n" not in raised.value.on_command_line


def test_an_image_folder_may_be_named_directly(tmp_path):
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        picture().save(tmp_path / "photos" / name / "1.png")
    assert load_splits(str(tmp_path / "photos")).class_names == ["a", "b"]


def test_a_hub_name_goes_to_load_dataset_without_remote_code(monkeypatch):
    calls = []

    def load_dataset(*arguments, **options):
        calls.append((arguments, options))
        return DatasetDict({"train": table([0, 1], names=["a", "b"])})

    monkeypatch.setattr("hf_vipriors.data.loaders.load_dataset", load_dataset)
    loaded = load_splits("someone/birds", config_name="small", revision="v2", data_dir="sub")
    assert calls == [(("someone/birds", "small"), {"data_dir": "sub", "revision": "v2"})]
    assert counts(loaded) == {"train": 2}


@pytest.mark.parametrize("failure", [ConnectionError("no\nroute to host"), ValueError("Config name is missing")])
def test_a_hub_failure_is_one_line(failure, monkeypatch):
    def load_dataset(*arguments, **options):
        raise failure

    monkeypatch.setattr("hf_vipriors.data.loaders.load_dataset", load_dataset)
    with pytest.raises(InputError, match="no route to host|Config name is missing") as raised:
        load_splits("someone/birds")
    assert "someone/birds" in raised.value.on_command_line and "\n" not in raised.value.on_command_line
    with pytest.raises(InputError, match="did you mean 'fashion-vipriors'"):
        load_splits("fashion-vipriros")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("./nowhere", {}, "no such file or folder './nowhere'"),
        ("nowhere.parquet", {}, "no such file or folder"),
        ("", {}, "no such file or folder"),
        ("imagefolder", {}, "needs data_dir"),
        ("parquet", {}, "needs data_dir"),
        ("parquet", {"data_dir": "nowhere"}, "no parquet file at 'nowhere'"),
        ("imagefolder", {"data_dir": "nowhere"}, "no such folder 'nowhere'"),
        ("imagefolder", {"data_dir": "x", "revision": "main"}, "dataset_revision cannot go with imagefolder"),
        ("fashion-vipriors", {"data_dir": "x"}, "data_dir cannot go with fashion-vipriors"),
    ],
)
def test_nothing_there_is_one_line(name, options, message):
    with pytest.raises(InputError, match=message):
        load_splits(name, **options)


def test_a_file_that_is_no_parquet_and_an_empty_folder(tmp_path):
    (tmp_path / "notes.csv").write_text("a,b")
    with pytest.raises(InputError, match="is no .parquet file"):
        load_splits(str(tmp_path / "notes.csv"))
    with pytest.raises(InputError, match="no class folders"):
        load_splits(str(tmp_path))


# --- columns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["image", "img", "anything"])
@pytest.mark.parametrize("label", ["label", "labels", "fine_label", "target", "class"])
@pytest.mark.parametrize("kind", ["int64", "string"])
def test_columns_are_found_and_named(image, label, kind, tmp_path):
    values = [5, 3, 5] if kind == "int64" else ["x", "b", "x"]
    loaded = load_splits(saved(tmp_path, table(values, image=image, label=label, kind=kind)))
    assert loaded.class_names == (["3", "5"] if kind == "int64" else ["b", "x"])
    assert label_array(loaded.splits["train"]).tolist() == [1, 0, 1]
    assert f"image column {image!r} in train; label column {label!r} in train" in loaded.notes


def test_integer_classes_are_in_numeric_order(tmp_path):
    assert load_splits(saved(tmp_path, table([10, 9, 100]))).class_names == ["9", "10", "100"]


def test_fine_label_wins_over_coarse_label_and_an_option_over_both(tmp_path):
    data = table([0, 1, 2], label="coarse_label", names=["p", "q", "r"])
    data = data.add_column("fine_label", [2, 1, 0]).cast_column("fine_label", ClassLabel(names=["a", "b", "c"]))
    folder = saved(tmp_path, data)
    assert load_splits(folder).class_names == ["a", "b", "c"]
    assert load_splits(folder, label_column="coarse_label").class_names == ["p", "q", "r"]


def test_records_of_bytes_are_found_without_the_image_type(tmp_path):
    data = table([0, 1], image="photo_record", names=["a", "b"]).cast_column("photo_record", Image(decode=False))
    plain = Dataset.from_dict(
        {"photo_record": data["photo_record"][:], "label": ["a", "b"]},
        features=Features(
            {"photo_record": {"bytes": Value("binary"), "path": Value("string")}, "label": Value("string")}
        ),
    )
    loaded = load_splits(saved(tmp_path, plain))
    assert loaded.splits["train"][1]["image"]["bytes"] == data[1]["photo_record"]["bytes"]


@pytest.mark.parametrize("kind", ["binary", "string"])
def test_an_explicit_image_column_may_hold_bytes_or_paths(kind, tmp_path):
    picture().save(tmp_path / "1.png")
    value = (tmp_path / "1.png").read_bytes() if kind == "binary" else str(tmp_path / "1.png")
    data = Dataset.from_dict(
        {"data": [value] * 2, "label": [0, 1]}, features=Features({"data": Value(kind), "label": Value("int64")})
    )
    folder = saved(tmp_path, data)
    with pytest.raises(InputError, match=rf"no image column found.*data \({kind}\), label \(int64\)"):
        load_splits(folder)
    record = load_splits(folder, image_column="data").splits["train"][0]["image"]
    assert record == {
        "bytes": value if kind == "binary" else None,
        "path": value if kind == "string" else None,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_column": "imge"}, r"no column 'imge' \(image_column\): did you mean 'image'"),
        ({"label_column": "lable"}, r"no column 'lable' \(label_column\): did you mean 'label'"),
        ({"image_column": "label"}, "holds no images"),
        ({"label_column": "image"}, "is no class label, text or number"),
        ({"label_column": "score"}, "holds numbers that are no integers"),
    ],
)
def test_wrong_columns_suggest_the_nearest(options, message, tmp_path):
    data = table([0, 1], names=["a", "b"]).add_column("score", [0.5, 0.7])
    with pytest.raises(InputError, match=message):
        load_splits(saved(tmp_path, data), **options)


# --- labels -------------------------------------------------------------------------------------------------------


def test_hidden_test_labels_join_the_unlabelled(tmp_path):
    names = ["a", "b"]
    loaded = load_dict(
        tmp_path,
        {"train": table([0, 1], names=names), "test": table([-1, -1, -1], names=names), "unlabelled": table(4)},
    )
    assert counts(loaded) == {"train": 2, "unlabelled": 7}
    assert any("test has 3 hidden labels" in note and "no test split is left" in note for note in loaded.notes)


def test_rows_with_hidden_labels_leave_a_labelled_split(tmp_path):
    loaded = load_dict(tmp_path, {"train": table(["b", None, "a", None], kind="string")})
    assert counts(loaded) == {"train": 2, "unlabelled": 2}
    assert label_array(loaded.splits["train"]).tolist() == [1, 0]
    assert loaded.splits["train"]["origin"][:] == ["train row 0", "train row 2"]


def test_no_labels_at_all_is_all_unlabelled(tmp_path):
    loaded = load_splits(saved(tmp_path, table(4)))
    assert counts(loaded) == {"unlabelled": 4} and loaded.class_names == []
    assert "train has no label column: its 4 images join the unlabelled ones" in loaded.notes


def test_a_test_split_without_the_label_column_gets_no_other_column(tmp_path):
    test = table([7, 8], label="y")
    loaded = load_dict(tmp_path, {"train": table([0, 1], label="target"), "test": test})
    assert counts(loaded) == {"train": 2, "unlabelled": 2}


def test_later_splits_use_the_image_column_of_the_first(tmp_path):
    test = table([0, 1], image="photo").add_column("image", [{"bytes": b"mask", "path": None}] * 2)
    loaded = load_dict(
        tmp_path, {"train": table([0, 1], image="photo"), "test": test.cast_column("image", Image(decode=False))}
    )
    assert all(record["bytes"] != b"mask" for record in loaded.splits["test"]["image"])
    assert "image column 'photo' in train, test; label column 'label' in train, test" in loaded.notes


def test_splits_share_the_numbering_of_train(tmp_path):
    loaded = load_dict(
        tmp_path, {"train": table([0, 1], names=["cat", "dog"]), "test": table([0, 1, 1], names=["dog", "cat"])}
    )
    assert label_array(loaded.splits["test"]).tolist() == [1, 0, 0]


def test_different_classes_are_named(tmp_path):
    with pytest.raises(
        InputError, match="train and test have different classes: only test has 'dgo'; only train has 'dog'"
    ):
        load_dict(
            tmp_path, {"train": table(["cat", "dog"], kind="string"), "test": table(["cat", "dgo"], kind="string")}
        )


@pytest.mark.parametrize(("kind", "train", "test"), [("string", "abca", "ab"), ("int64", [0, 1, 2, 0], [0, 1])])
def test_a_split_may_lack_a_class_whose_name_was_only_observed(kind, train, test, tmp_path):
    loaded = load_dict(tmp_path, {"train": table(list(train), kind=kind), "test": table(list(test), kind=kind)})
    assert counts(loaded) == {"train": 4, "test": 2} and len(loaded.class_names) == 3
    assert any(note.startswith("test has no image of class ") for note in loaded.notes)


def test_a_split_that_declares_fewer_classes_is_refused(tmp_path):
    with pytest.raises(InputError, match="different classes: only train has 'c': give both the same"):
        load_dict(
            tmp_path, {"train": table([0, 1, 2], names=["a", "b", "c"]), "test": table([0, 1], names=["a", "b"])}
        )


def test_classes_that_differ_only_in_case_are_said(tmp_path):
    note = "look at the classes: classes differ only in case: 'Cat', 'cat'; are they one?"
    assert note in load_dict(tmp_path, {"train": table(["cat", "dog", "Cat"], kind="string")}).notes
    both = {"train": table(["Cat", "dog"], kind="string"), "test": table(["cat", "dog"], kind="string")}
    with pytest.raises(InputError, match=r"only train has 'Cat' \('Cat', 'cat' differ only in case\): give both"):
        load_dict(tmp_path, both)


def test_a_class_that_may_mean_no_label_is_said_where_labels_are_hidden(tmp_path):
    found = load_dict(tmp_path, {"train": table(["a", "NA", "b", "nan"], kind="string")})
    assert "look at the classes: 'NA' is read as a class; where it means that there is no label, leave it empty" in (
        found.notes
    )
    found = load_dict(tmp_path, {"train": table(["a", "NA", "b"], kind="string")})
    assert not any("NA' is read" in note for note in found.notes)


def test_a_class_without_train_images_is_named(tmp_path):
    names = ["a", "b", "c"]
    with pytest.raises(InputError, match="class 'c' has images in test but none in train"):
        load_dict(tmp_path, {"train": table([0, 1], names=names), "test": table([0, 1, 2], names=names)})


def test_declared_classes_without_images_are_left_out_and_labels_stay_dense(tmp_path):
    names = ["a", "b", "c", "d"]
    loaded = load_dict(tmp_path, {"train": table([3, 1, 3], names=names), "test": table([1, -1, 3], names=names)})
    assert loaded.class_names == ["b", "d"]
    assert label_array(loaded.splits["train"]).tolist() == [1, 0, 1]
    assert label_array(loaded.splits["test"]).tolist() == [0, 1]
    assert any("2 of 4 declared classes have no images" in note for note in loaded.notes)


def test_an_empty_data_set_is_refused(monkeypatch):
    empty = DatasetDict({"train": table([], names=["a", "b"])})
    monkeypatch.setattr("hf_vipriors.data.loaders.load_dataset", lambda *arguments, **options: empty)
    with pytest.raises(InputError, match="'someone/nothing' .* holds no images"):
        load_splits("someone/nothing")
