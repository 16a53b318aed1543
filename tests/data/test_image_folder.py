"""Image folders: layouts, suffixes, and the mistakes people make in them."""

import errno
import os
from pathlib import Path

import numpy as np
import pandas
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from PIL import Image

from hf_vipriors.data import build_store, decode, load_splits, train_geometry
from hf_vipriors.data.columns import label_array
from hf_vipriors.data.image_folder import every_image
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


# --- tables of labels ---------------------------------------------------------------------------------------------


def labels_of(loaded, split="train"):
    """File name -> class of a split."""
    codes = label_array(loaded.splits[split]).tolist()
    return dict(zip(names(loaded, split), [loaded.class_names[code] for code in codes], strict=True))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_metadata_tells_the_classes_where_folders_are_parts(kind, tmp_path):
    put(tmp_path, *(f"{split}/part{i % 2}/{split}{i}.png" for split in ("train", "test") for i in range(4)))
    for split in ("train", "test"):
        rows = [{"file_name": f"part{i % 2}/{split}{i}.png", "label": "ab"[i // 2]} for i in range(3, -1, -1)]
        getattr(pandas.DataFrame(rows), f"to_{kind.removesuffix('l')}")(
            tmp_path / split / f"metadata.{kind}",
            **{"csv": {"index": False}, "jsonl": {"orient": "records", "lines": True}, "parquet": {}}[kind],
        )
    for loaded in (load(tmp_path), load_splits(str(tmp_path))):
        assert loaded.class_names == ["a", "b"]
        assert labels_of(loaded) == {f"train{i}.png": "ab"[i // 2] for i in range(4)}
        assert names(loaded, "train") == ["train0.png", "train2.png", "train1.png", "train3.png"], "order of the files"
        assert counts(loaded) == {"train": 4, "test": 4}


def test_metadata_of_unlabelled_images_is_not_for_labels(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png", "unlabelled/2.png")
    write(tmp_path / "unlabelled" / "metadata.csv", "file_name,camera", "2.png,x")
    assert counts(load(tmp_path)) == {"train": 2, "unlabelled": 1}


@pytest.mark.parametrize("place", ["", "train"])
def test_metadata_that_names_no_files_is_not_passed_over_where_folders_would_be_the_classes(place, tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png")
    write(tmp_path / place / "metadata.csv", "Bild;Klasse", "a/1.png;x", "b/1.png;y")
    with pytest.raises(InputError, match=r"metadata.csv' has no column of files among 'Bild', 'Klasse': call it "):
        load(tmp_path)
    (tmp_path / place / "metadata.csv").rename(tmp_path / "train" / "a" / "metadata.csv")
    assert load(tmp_path).class_names == ["a", "b"], "of where one class was found"


def test_metadata_at_the_top_splits_by_folder_or_by_its_column(tmp_path):
    put(tmp_path, "train/1.png", "train/2.png", "test/3.png", "test/4.png")
    head, rows = "file_name,species", ["train/1.png,a", "train/2.png,b", "test/3.png,a"]
    write(tmp_path / "metadata.csv", head, *rows)
    loaded = load_splits("imagefolder", data_dir=str(tmp_path), label_column="species")
    assert counts(loaded) == {"train": 2, "test": 1} and loaded.class_names == ["a", "b"]
    assert [note for note in loaded.notes if note.startswith("left out")] == [
        "left out: 1 images in folders of validation or test that nothing labels"
    ]
    with pytest.raises(InputError, match=r"metadata.csv' has no column of labels among .*'species': .* label_column"):
        load(tmp_path)
    split = ["val", "train", "training"]
    write(
        tmp_path / "metadata.csv", "file_name,label,split", *(f"{row},{s}" for row, s in zip(rows, split, strict=True))
    )
    assert labels_of(load(tmp_path)) == {"2.png": "b", "3.png": "a"}


def write(path, *lines, encoding="utf-8"):
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return str(path)


def load_table(root, *lines, name="labels.csv", encoding="utf-8", **options):
    table = write(root.parent / name, *lines, encoding=encoding)
    return load_splits("imagefolder", data_dir=str(root), labels=table, **options)


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    put(root, "1.png", "some/2.png", "some/3.png", "other/3.png", "unlabelled/4.png", "test/5.png")
    return root


def test_rows_name_files_in_any_usual_way(photos):
    loaded = load_table(
        photos,
        "path,label",
        "1.png,a",
        "2.png,b",
        "some\\3.png,a",
        "photos/other/3.png,b",
        "4,c",
        f"{photos}/test/5.png,c",
    )
    train = dict(zip(names(loaded, "train"), label_array(loaded.splits["train"]).tolist(), strict=True))
    assert counts(loaded) == {"train": 5, "test": 1} and train["4.png"] == 2
    assert {
        path.removeprefix(f"{photos}/"): code
        for path, code in zip(
            [record["path"] for record in loaded.splits["train"]["image"]],
            label_array(loaded.splits["train"]),
            strict=True,
        )
    } == {"1.png": 0, "other/3.png": 1, "some/2.png": 1, "some/3.png": 0, "unlabelled/4.png": 2}


def test_a_name_may_differ_in_case_from_the_only_file_that_it_can_mean(photos):
    found = labels_of(load_table(photos, "file_name,label", "SOME/2.PNG,a", "1.PNG,b"))
    assert found == {"2.png": "a", "1.png": "b"}
    put(photos, "Some/2.Png")
    assert labels_of(load_table(photos, "file_name,label", "some/2.png,a", "1.png,b"))["2.png"] == "a", "as written"
    with pytest.raises(InputError, match=r"data row 1: 'SOME/2.png' may be 'Some/2.Png', 'some/2.png'"):
        load_table(photos, "file_name,label", "SOME/2.png,a", "1.png,b")


def test_images_that_nothing_labels_are_the_pool_but_for_those_of_test(photos):
    loaded = load_table(photos, "file_name,label", "1.png,a", "2.png,b", "unlabelled/4.png,")
    assert counts(loaded) == {"train": 2, "unlabelled": 3}
    assert sorted(names(loaded, "unlabelled")) == ["3.png", "3.png", "4.png"]
    assert "2 images that nothing labels are unlabelled" in loaded.notes


def test_a_name_that_begins_or_ends_with_a_blank_means_no_other_file(photos):
    put(photos, " 1.png", "some/2.png ")
    found = load_table(photos, "file_name,label", " 1.png, a ", "1.png,b", "some/2.png ,c")
    assert labels_of(found) == {" 1.png": "a", "1.png": "b", "2.png ": "c"}


@pytest.mark.parametrize("column", ["split", "subset", "Set", "partition"])
def test_a_column_may_tell_the_split(column, photos):
    loaded = load_table(photos, f"file,label,{column}", "1.png,a,train", "2.png,b,", "test/5.png,a,val", "4,b,test")
    assert counts(loaded) == {"train": 2, "validation": 1, "test": 1, "unlabelled": 2}


def test_a_column_called_set_that_holds_other_things_tells_no_split(photos):
    loaded = load_table(photos, "file,label,set", "1.png,a,lego", "2.png,b,train")
    assert counts(loaded)["train"] == 2


@pytest.fixture
def sorted_photos(tmp_path):
    """What a student was trained on: class folders in every split, and images that wait for a label."""
    root = tmp_path / "sorted"
    for split, count in (("train", 3), ("validation", 2), ("test", 1)):
        put(root, *(f"{split}/{name}/{i}.png" for name in ("cat", "dog") for i in range(count)))
    put(root, *(f"unlabelled/u{i}.png" for i in range(4)), "train/loose.png", "test/loose.png", "old/cat/o.png")
    return root


def test_rows_come_on_top_of_class_folders(sorted_photos):
    rows = ["unlabelled/u0.png,cat", "unlabelled/u1.png,fox", "unlabelled/u2.png,", "train/cat/2.png,dog"]
    loaded = load_table(sorted_photos, "file_name,label", *rows, "train/dog/0.png,")
    assert counts(loaded) == {"train": 8, "validation": 4, "test": 2, "unlabelled": 4}
    assert loaded.class_names == ["cat", "dog", "fox"]
    paths = [record["path"].removeprefix(f"{sorted_photos}/") for record in loaded.splits["train"]["image"]]
    labels = dict(zip(paths, label_array(loaded.splits["train"]).tolist(), strict=True))
    assert labels == {
        **{f"train/cat/{i}.png": int(i == 2) for i in range(3)},
        **{f"train/dog/{i}.png": 1 for i in range(3)},
        **{"unlabelled/u0.png": 0, "unlabelled/u1.png": 2},
    }, "a row without a label takes none away"
    assert sorted(names(loaded, "unlabelled")) == ["loose.png", "o.png", "u2.png", "u3.png"]
    for note in (
        f"labels of 3 of 5 rows from '{sorted_photos.parent}/labels.csv', splits by folders",
        "labels of 11 images that no row labels from their class folders: train 5, validation 4, test 2",
        "rows that give an image another class than its folder: 1; the rows count",
    ):
        assert note in loaded.notes


@pytest.mark.parametrize(
    ("folders", "rows", "classes"),
    [
        (("1.0", "2.0"), ("1.0", "2.0", ""), ["1.0", "2.0"]),  # a column of integers, as pandas may write them
        (("1", "2"), ("1.0", "x", "2"), ["1", "2", "x"]),  # a column of text
        (("-1", "0"), ("-1", "0", "0"), ["-1", "0"]),
        (("-1", "0"), ("-1.0", "0.0", "0.0"), ["-1", "0"]),
        (("nan", "roti"), ("nan", "roti", ""), ["nan", "roti"]),
        (("nan", "roti"), ("NaN", "roti", "-1"), ["nan", "roti"]),
    ],
)
def test_a_class_folder_says_what_a_number_or_a_missing_label_in_a_table_is(folders, rows, classes, tmp_path):
    root = tmp_path / "photos"
    put(root, *(f"train/{name}/1.png" for name in folders), *(f"unlabelled/{i}.png" for i in range(3)))
    lines = (f"unlabelled/{i}.png,{label}" for i, label in enumerate(rows))
    loaded = load_table(root, "file_name,label", *lines)
    assert loaded.class_names == classes
    meant = {"1.0": classes[0], "2": classes[1], "-1.0": "-1", "0.0": "0"} | {name: name for name in classes}
    expected = {f"{i}.png": meant[label] for i, label in enumerate(rows) if label in meant}
    found = [(os.path.basename(each["image"]["path"]), classes[each["label"]]) for each in loaded.splits["train"]
             if "unlabelled" in each["image"]["path"]]  # fmt: skip
    assert dict(found) == expected
    odd = [note for note in loaded.notes if "is a class here" in note]
    assert len(odd) == (folders[0] in rows and folders[0] in ("-1", "nan") or rows[0] == "-1.0")


def test_two_ways_of_writing_a_number_are_one_class_beside_its_folder(tmp_path):
    root = tmp_path / "photos"
    put(root, "train/1/1.png", "train/x/1.png", "train/usb2/1.png", "unlabelled/1.png", "unlabelled/2.png")
    rows = ["train/1/1.png,1", "train/x/1.png,x", "train/usb2/1.png,usb2", "unlabelled/1.png,1.0"]
    loaded = load_table(root, "file_name,label", *rows, "unlabelled/2.png,usb2.0")
    assert loaded.class_names == ["1", "usb2", "usb2.0", "x"], "every image has a row"
    assert label_array(loaded.splits["train"]).tolist() == [0, 1, 3, 0, 2]


def test_folders_that_are_no_classes_make_no_missing_label_one(tmp_path):
    root = tmp_path / "photos"
    put(root, "-1/1.png", "0/1.png", "0/2.png", "1/1.png")
    rows = ["-1/1.png,cat", "0/1.png,dog", "1/1.png,-1"]
    loaded = load_table(root, "file_name,label", *rows)
    assert loaded.class_names == ["cat", "dog"] and len(loaded.splits["train"]) == 2
    assert any("are not read as classes: those of the table are 'cat', 'dog'" in note for note in loaded.notes)
    assert not any("is a class here" in note for note in loaded.notes)


def test_zeros_that_a_spreadsheet_took_away_make_no_second_class(tmp_path):
    root = tmp_path / "photos"
    put(root, "train/001/1.png", "train/002/1.png", "unlabelled/1.png")
    with pytest.raises(
        InputError, match="class '1' of the table and class folder '001' are one number: write it alike"
    ):
        load_table(root, "file_name,label", "unlabelled/1.png,1")
    put(root, "train/1/1.png")
    assert load_table(root, "file_name,label", "unlabelled/1.png,1", "train/1/1.png,1").class_names == [
        "001",
        "1",
        "002",
    ]
    assert load_table(root, "file_name,label", "unlabelled/1.png,1").class_names == ["001", "1", "002"]


def test_a_forgotten_table_in_a_split_takes_no_label_away(sorted_photos):
    write(sorted_photos / "train" / "metadata.csv", "file_name,label", "cat/0.png,cat", "dog/1.png,cat")
    loaded = load(sorted_photos)
    assert counts(loaded) == {"train": 6, "validation": 4, "test": 2, "unlabelled": 6}
    assert label_array(loaded.splits["train"]).tolist() == [0, 0, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("rows", "classes"),
    [
        (["unlabelled/9.png,fox"], ["a", "b", "fox"]),  # nothing is said of the folders
        (["b/1.png,fox", "a/1.png,b"], ["a", "b", "fox"]),
        (["1.png,a", "2.png,c"], ["a", "b", "c"]),
        (["1.png,c", "2.png,d"], ["c", "d"]),  # images beside folders that are called otherwise
        (["a/1.png,c", "b/1.png,d", "1.png,a"], ["a", "c", "d"]),  # parts of a download, one of them called a
    ],
)
def test_folders_beside_each_other_are_classes_where_the_rows_agree(rows, classes, tmp_path):
    put(tmp_path, "a/1.png", "a/3.png", "b/1.png", "b/3.png", "1.png", "2.png", "unlabelled/9.png")
    table = write(tmp_path / "t.csv", "file_name,label", *rows)
    loaded = load_splits("imagefolder", data_dir=str(tmp_path), labels=table)
    assert loaded.class_names == classes
    said = any("folders 'a', 'b' are not read as classes: those of the table are" in note for note in loaded.notes)
    assert said == ("b" not in classes)


def test_an_empty_class_folder_of_train_is_refused_unless_rows_fill_it(sorted_photos):
    (sorted_photos / "train" / "fox").mkdir()
    with pytest.raises(InputError, match=r"no image in class folder 'fox' of .*train'"):
        load_table(sorted_photos, "file_name,label", "u0.png,cat")
    assert load_table(sorted_photos, "file_name,label", "u0.png,fox").class_names == ["cat", "dog", "fox"]


def test_captions_beside_class_folders_are_no_labels(tmp_path):
    put(tmp_path, "cat/1.png", "dog/2.png")
    write(tmp_path / "metadata.csv", "file_name,text", "cat/1.png,one cat", "dog/2.png,a dog")
    loaded = load(tmp_path)
    assert loaded.class_names == ["cat", "dog"] and any("no label column" in note for note in loaded.notes)


def test_a_table_in_the_folder_is_found_by_its_name(photos):
    write(photos / "mine.csv", "file,label", "1.png,a", "2.png,b")
    loaded = load_splits("imagefolder", data_dir=str(photos), labels="mine.csv")
    assert counts(loaded)["train"] == 2 and not any("mine.csv" in note and "left out" in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("name", "lines", "encoding"),
    [
        ("excel.csv", ["File;Class", "1.png;ä b", "some/2.png;x"], "utf-8-sig"),
        ("t.tsv", ["filename\tcategory", "1.png\tä b", "some/2.png\tx"], "utf-8"),
        ("excel unicode.txt", ["file_name\tlabel", "1.png\tä b", "some/2.png\tx"], "utf-16"),
        ("unicode.csv", ["file_name,label", "1.png,ä b", "some/2.png,x"], "utf-32"),
        ("commas.csv", ["file_name;label;place, time, camera, lens", "1.png;ä b;a", "some/2.png;x;b"], "utf-8"),
        ("macintosh.csv", ["file_name,label\r1.png,ä b\rsome/2.png,x"], "utf-8"),
        ("two systems.csv", ["file_name;label\r1.png;ä b", "some/2.png;x"], "utf-8"),
        ("separator.csv", ["sep=|", "Image Name|Label", "1.png|ä b", "some/2.png|x"], "utf-8"),
        ("hub.csv", ["image_file_name,label", "1.png,ä b", "some/2.png,x"], "utf-8"),
        ("blanks.csv", [" File Name , Label ", "1.png, ä b", " some/2.png ,x "], "utf-8"),
        ("t.jsonl", ['{"image": "1.png", "label": "ä b"}', '{"image": "some/2.png", "label": "x"}'], "utf-8"),
    ],
)
def test_tables_as_programs_write_them(name, lines, encoding, photos):
    assert labels_of(load_table(photos, *lines, name=name, encoding=encoding)) == {"1.png": "ä b", "2.png": "x"}


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(("10", "9", ""), ["9", "10"]), (("1.0", "0.0", ""), ["0", "1"]), (("001", "01", "NA"), ["001", "01", "NA"])],
)
def test_numbers_are_classes_in_their_order_and_codes_stay_text(labels, classes, photos):
    rows = zip(("1.png", "some/2.png", "some/3.png"), labels, strict=True)
    assert load_table(photos, "file,label", *(f"{file},{label}" for file, label in rows)).class_names == classes


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("val", r"val' is empty: remove it \(validation is then carved from train\), or fill val/CLASS/"),
        ("test", r"test' is empty: remove it \(the validation images are then scored as test\), or fill test/CLASS/"),
    ],
)
def test_an_empty_folder_of_a_split_may_go(split, message, tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png")
    (tmp_path / split).mkdir()
    with pytest.raises(InputError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file_name,label", "1.png,a", "9.png,b"], r"labels.csv' data row 2: no image '9.png' below .*mend the name"),
        (["file_name,label", "3.png,a"], r"row 1: '3.png' may be 'other/3.png', 'some/3.png': write the path"),
        (["file_name,label", "1.png,a", "1,b"], r"row 2 gives '1' another of the labels than .*data row 1: keep"),
        (["file_name,label,split", "1.png,a,train", "1,a,test"], "row 2 gives '1' another of the splits"),
        (["file_name,label,split", "1.png,a,fold7"], "row 1: unknown split 'fold7': write one of 'train'"),
        (["file_name,label"], "has no rows"),
        (["1.png,a", "2.png,b"], r"no column of files among '1.png', 'a': call it file_name"),
        (["file_name,text", "1.png,a"], "no column of labels among 'file_name', 'text'"),
        (["file_name,label", "1.png,a,b"], r"cannot read the table .*Expected 2 columns, got 3"),
        ([""], "cannot read the table"),
        (["x" * 140_000], "cannot read the table .*field larger than field limit"),
        (["file_name,label,label", "1.png,a,b"], "more than one column 'label'"),
    ],
)
def test_mistakes_in_a_table_are_one_line(lines, message, photos):
    with pytest.raises(InputError, match=message) as raised:
        load_table(photos, *lines)
    assert "\n" not in raised.value.on_command_line


def test_a_column_of_class_labels_keeps_their_order_and_an_image_elsewhere_is_train(photos, tmp_path):
    put(tmp_path, "dev/9.png")
    rows = {"file_name": ["1.png", "2.png", str(tmp_path / "dev" / "9.png")], "label": [1, 0, 1], "size": [6, 6, 6]}
    features = Features({"file_name": Value("string"), "label": ClassLabel(names=["z", "a"]), "size": Value("int8")})
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "labels.parquet")
    loaded = load_splits("imagefolder", data_dir=str(photos), labels=str(tmp_path / "labels.parquet"))
    assert loaded.class_names == ["z", "a"] and labels_of(loaded) == {"1.png": "a", "2.png": "z", "9.png": "a"}


def test_tables_that_are_none(photos):
    with pytest.raises(InputError, match=r"labels.xlsx' is none of '.csv'"):
        load_table(photos, "x", name="labels.xlsx")
    with pytest.raises(InputError, match=r"no table 'nowhere.csv': give the path of one, or leave it out$"):
        load_splits("imagefolder", data_dir=str(photos), labels="nowhere.csv")
    with pytest.raises(InputError, match=r"labels.csv' is not UTF-8 \(line 2\): save it as CSV UTF-8"):
        load_table(photos, "file_name,label", "1.png,é", encoding="latin-1")
    records = pandas.DataFrame({"image": [{"path": "1.png"}], "label": ["a"]})
    records.to_parquet(photos.parent / "data.parquet")
    with pytest.raises(InputError, match=r"column 'image' of the table .*data.parquet' has values of type struct<"):
        load_splits("imagefolder", data_dir=str(photos), labels=str(photos.parent / "data.parquet"))
    with pytest.raises(InputError, match=r"column 'file_name' .* type list<.*: write the name of one file in each"):
        load_table(photos, '{"file_name": ["1.png", "2.png"], "label": "a"}', name="labels.jsonl")
    with pytest.raises(InputError, match="labels cannot go with 'fashion-vipriors'"):
        load_splits("fashion-vipriors", labels="labels.csv")


# --- splits and classes interchanged ------------------------------------------------------------------------------


def test_splits_inside_the_class_folders(tmp_path):
    put(tmp_path, *(f"{name}/{split}/{split}.png" for name in ("cat", "dog") for split in ("train", "test")))
    put(tmp_path, "dog/val/v.png", "cat/unlabelled/u.png", "unlabelled/w.png")
    loaded = load(tmp_path)
    assert counts(loaded) == {"train": 2, "validation": 1, "test": 2, "unlabelled": 2}
    assert names(loaded, "test") == ["test.png", "test.png"] and loaded.class_names == ["cat", "dog"]
    assert any(note.startswith("splits inside the class folders") for note in loaded.notes)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["cat/train/1.png", "cat/test/2.png", "dog/1.png"], r"'.*cat/test' is called like a split, but .*dog' holds"),
        (
            ["cat/train/1.png", "cat/2.png", "dog/train/1.png"],
            r"cat/train' .*, but .*cat' holds images: .*\(cat/train/\)",
        ),
        (["cat/train/1.png", "cat/old/2.png"], r"cat' holds 'old'"),
        (["cat/train/1.png", "empty/.keep/1.png"], r"empty' holds none"),
        (["first/train/cat/1.png", "first/test/cat/2.png"], r"first/test' .*the folder 'cat'.* give data_dir .*first"),
        (
            ["train/1.png", "car/1.png", "bus/1.png"],
            r"train' is called like a split, but .* class does, beside 'bus', 'car'",
        ),
        (["valid/1.png", "invalid/1.png"], r"valid' is called like a split, but holds images .* beside 'invalid'"),
        (
            ["train/steam/1.png", "train/diesel/1.png", "bus/city/1.png", "car/1.png"],
            r"train' is called like a split, and lies beside 'bus', 'car', which hold images",
        ),
        (["train/cat/1.png", "train/cat/test/2.png"], r"train/cat/test' .* but lies in train: .* to test/cat/"),
    ],
)
def test_what_may_be_a_split_or_a_class_is_refused(paths, message, tmp_path):
    put(tmp_path, *paths)
    with pytest.raises(InputError, match=message) as raised:
        load(tmp_path)
    assert "\n" not in raised.value.on_command_line


def test_a_class_of_a_split_may_be_called_like_a_split(tmp_path):
    put(
        tmp_path, "train/train/1.png", "train/car/1.png", "train/car/train/2.png", "test/train/1.png", "test/car/2.png"
    )
    assert load(tmp_path).class_names == ["car", "train"]


# --- what is left out ---------------------------------------------------------------------------------------------


def test_what_is_left_out_is_named_once_by_kind(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png", "train/loose.png", "train/b/2.jpg_large", "train/b/3.jpg_large")
    put(tmp_path, "unlabelled/4.png", "unlabelled/4.NEF", "test/a/5.png", "test/b/5.dng")
    for name in ("classes.txt", "train/_annotations.coco.json", "train/a/1.xml", "train/a/Thumbs.db"):
        (tmp_path / name).write_text("no image")
    loaded = load(tmp_path)
    assert counts(loaded) == {"train": 2, "test": 1, "unlabelled": 1}
    left_out = [note for note in loaded.notes if note.startswith("left out")]
    assert [note.replace(str(tmp_path), "DIR") for note in left_out] == [
        "left out: 1 images beside class folders ('train/loose.png'): move each into its class",
        "left out: 3 annotation files in DIR, which are not read "
        "('train/_annotations.coco.json', 'classes.txt' and 1 more)",
        "left out: no images that are read: 2 .jpg_large ('train/b/2.jpg_large' and 1 more), "
        "1 .dng (camera raw: export them as JPEG or PNG), 1 .nef (camera raw: export them as JPEG or PNG) in DIR",
    ]


def test_a_file_without_a_suffix_is_what_its_first_bytes_say(tmp_path):
    put(tmp_path, "train/a/2f9c", "train/b/7a01")
    (tmp_path / "train" / "a" / "LICENSE").write_text("no image")
    Image.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(tmp_path / "train" / "a" / "raw", format="TIFF")
    loaded = load(tmp_path)
    assert names(loaded, "train") == ["2f9c", "7a01"]
    assert any("2 without a suffix ('train/a/LICENSE' and 1 more)" in note for note in loaded.notes)


def test_a_telephone_s_images(tmp_path, monkeypatch):
    pytest.importorskip("pillow_heif")
    put(tmp_path, "train/a/1.png", "train/b/1.png")
    Image.fromarray(np.full((16, 32, 3), 200, dtype=np.uint8)).save(tmp_path / "train" / "b" / "2.HEIC", format="HEIF")
    data = load(tmp_path).splits["train"]
    assert len(data) == 3 and build_store(data, train_geometry(data, 4)).images[2].float().mean() == pytest.approx(
        200, abs=3
    )
    monkeypatch.setattr("hf_vipriors.data.image_files.IMAGE_SUFFIXES", frozenset([".png"]))
    loaded = load(tmp_path)
    assert len(loaded.splits["train"]) == 2
    assert any("1 .heic (pip install pillow-heif reads them)" in note for note in loaded.notes)


def test_a_telephone_s_image_that_is_called_jpg_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vipriors.data.image_decoding.READS_HEIC", False)
    (tmp_path / "1.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(InputError, match="unreadable image .*1.jpg': a HEIC image: pip install pillow-heif"):
        decode({"path": str(tmp_path / "1.jpg"), "bytes": None})


# --- classes that a split lacks -----------------------------------------------------------------------------------


def test_a_split_may_lack_a_class_of_train(tmp_path):
    put(tmp_path, *(f"train/{name}/1.png" for name in "abc"), "val/a/1.png", "test/c/1.png", "test/b/1.png")
    (tmp_path / "val" / "b").mkdir()
    loaded = load(tmp_path)
    assert loaded.class_names == ["a", "b", "c"]
    assert labels_of(loaded, "validation") == {"1.png": "a"}
    assert label_array(loaded.splits["test"]).tolist() == [1, 2]
    missing = [note for note in loaded.notes if "has no image of class" in note]
    assert len(missing) == 2 and missing[0].startswith("validation has no image of class 'b', 'c'")


def test_boxes_beside_class_folders_are_no_labels(tmp_path):
    put(tmp_path, "cat/1.png", "dog/2.png")
    write(tmp_path / "metadata.jsonl", '{"file_name": "cat/1.png", "label": {"x": 1}}')
    loaded = load(tmp_path)
    assert loaded.class_names == ["cat", "dog"] and any("no label column" in note for note in loaded.notes)


@pytest.fixture
def locked(monkeypatch):
    """``locked(folder)``: listing it fails, also for root, whom rights do not stop."""
    real = os.scandir

    def lock(folder, number=errno.EACCES):
        def scandir(path="."):
            if os.path.abspath(path) == str(folder):
                raise OSError(number, os.strerror(number), str(path))
            return real(path)

        monkeypatch.setattr("os.scandir", scandir)

    return lock


@pytest.mark.parametrize("inside", ["train/cat/secret", "train/cat", "train", "unlabelled", "unlabelled/deep"])
def test_a_folder_that_may_not_be_listed_is_refused_and_its_images_not_missed(inside, tmp_path, locked):
    put(tmp_path, "train/cat/1.png", "train/cat/secret/2.png", "train/dog/3.png", "unlabelled/deep/4.png")
    locked(tmp_path / inside)
    said = rf"cannot list the folder '{tmp_path / inside}': Permission denied; give it read rights or move it away$"
    for read in (every_image, load):
        with pytest.raises(InputError, match=said):
            read(tmp_path)


def test_a_class_that_looks_hidden_is_named(tmp_path, locked):
    put(
        tmp_path, *(f"{split}/{name}/1.png" for split in ("train", "test") for name in (".NET", "java", ".thumbnails"))
    )
    put(tmp_path, "train/rust/1.png", "train/java/.1.png")
    (tmp_path / "train" / ".system").mkdir()
    locked(tmp_path / "train" / ".system")
    loaded = load(tmp_path)
    assert loaded.class_names == ["java", "rust"]
    assert [note for note in loaded.notes if note.startswith("left out")] == [
        f"left out: hidden folders with images in {tmp_path / split} ('.NET'): rename those that are classes"
        for split in ("test", "train")
    ]


def test_parquet_in_a_folder_whose_disk_does_not_answer_is_not_missed(tmp_path, locked):
    (tmp_path / "parts" / "later").mkdir(parents=True)
    pandas.DataFrame({"label": [0]}).to_parquet(tmp_path / "parts" / "train.parquet")
    locked(tmp_path / "parts" / "later", errno.EIO)
    for arguments in (("parquet", {"data_dir": str(tmp_path)}), (str(tmp_path), {})):
        with pytest.raises(InputError, match="cannot list the folder .*later': Input/output error; look after its"):
            load_splits(arguments[0], **arguments[1])


def test_what_nobody_may_look_into_on_a_disk_of_its_own_is_no_image_folder(tmp_path, locked):
    put(tmp_path, "cat/1.png")
    (tmp_path / "lost+found").mkdir()
    locked(tmp_path / "lost+found")
    assert len(every_image(tmp_path)) == 1 and load(tmp_path).class_names == ["cat"]


def test_links_that_lead_nowhere_are_left_out_and_links_back_followed_once(tmp_path):
    put(tmp_path, "cat/1.png")
    (tmp_path / "cat" / "round").symlink_to("round")
    (tmp_path / "cat" / "back").symlink_to("..")
    assert len(every_image(tmp_path)) == 1


def test_many_links_back_beside_a_split_are_followed_once(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png")
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    for number in range(2):  # each walks into the other: 2^40 folders before the system says ELOOP
        (tmp_path / "docs" / "deep" / f"back{number}").symlink_to("..")
    assert counts(load(tmp_path)) == {"train": 2}


def test_a_file_or_nothing_where_a_folder_belongs(tmp_path):
    put(tmp_path, "photo.png")
    for read in (every_image, load):
        with pytest.raises(InputError, match=r"photo.png' \(data_dir\) is a file: give the folder that it lies in$"):
            read(tmp_path / "photo.png")
        with pytest.raises(InputError, match=r"no such folder .*nowhere' \(data_dir\): give "):
            read(tmp_path / "nowhere")
        for address in ("https://host/a.jpg", "HF://datasets/x", "file:///photos"):
            with pytest.raises(InputError, match=r"^data_dir is an address \(\w+:\), and a folder on this machine"):
                read(Path(address))
        with pytest.raises(InputError, match="no such folder"):
            read(tmp_path / "ab:" / "b")
