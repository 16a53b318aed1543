"""Image folders: layouts, suffixes, and the mistakes people make in them."""

import numpy as np
import pandas
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


def test_metadata_at_the_top_splits_by_folder_or_by_its_column(tmp_path):
    put(tmp_path, "train/1.png", "train/2.png", "test/3.png", "test/4.png")
    head, rows = "file_name,species", ["train/1.png,a", "train/2.png,b", "test/3.png,a"]
    write(tmp_path / "metadata.csv", head, *rows)
    loaded = load_splits("imagefolder", data_dir=str(tmp_path), label_column="species")
    assert counts(loaded) == {"train": 2, "test": 1} and loaded.class_names == ["a", "b"]
    assert any("1 images in folders of validation or test that no row names" in note for note in loaded.notes)
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


def test_images_that_no_row_names_are_the_pool_but_for_those_of_test(photos):
    loaded = load_table(photos, "file_name,label", "1.png,a", "2.png,b", "unlabelled/4.png,")
    assert counts(loaded) == {"train": 2, "unlabelled": 3}
    assert sorted(names(loaded, "unlabelled")) == ["3.png", "3.png", "4.png"]
    assert "2 images that no row names are unlabelled" in loaded.notes


@pytest.mark.parametrize(
    ("name", "lines", "encoding"),
    [
        ("excel.csv", ["File;Class", "1.png;ä b", "some/2.png;x"], "utf-8-sig"),
        ("t.tsv", ["filename\tcategory", "1.png\tä b", "some/2.png\tx"], "utf-8"),
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
    ("lines", "message"),
    [
        (["file_name,label", "1.png,a", "9.png,b"], r"labels.csv' row 2: no image '9.png' below .*mend the name"),
        (["file_name,label", "3.png,a"], r"row 1: '3.png' may be 'other/3.png', 'some/3.png': write the path"),
        (["file_name,label", "1.png,a", "1,b"], r"row 2 gives '1' another of the labels than .*row 1: keep one row"),
        (["file_name,label,split", "1.png,a,train", "1,a,test"], "row 2 gives '1' another of the splits"),
        (["file_name,label,split", "1.png,a,fold7"], "row 1: unknown split 'fold7': write one of 'train'"),
        (["file_name,label"], "has no rows"),
        (["1.png,a", "2.png,b"], r"no column of files among '1.png', 'a': call it file_name"),
        (["file_name,text", "1.png,a"], "no column of labels among 'file_name', 'text'"),
        (["file_name,label", "1.png,a,b"], r"cannot read the table .*Expected 2 columns, got 3"),
        ([""], "cannot read the table"),
    ],
)
def test_mistakes_in_a_table_are_one_line(lines, message, photos):
    with pytest.raises(InputError, match=message) as raised:
        load_table(photos, *lines)
    assert "\n" not in raised.value.on_command_line


def test_tables_that_are_none(photos):
    with pytest.raises(InputError, match=r"labels.xlsx' is no .csv"):
        load_table(photos, "x", name="labels.xlsx")
    with pytest.raises(InputError, match="cannot read the table 'nowhere.csv': .*No such file"):
        load_splits("imagefolder", data_dir=str(photos), labels="nowhere.csv")
    with pytest.raises(InputError, match="cannot read the table"):
        load_table(photos, "file_name,label", "1.png,é", encoding="latin-1")
    with pytest.raises(InputError, match="labels cannot go with 'fashion-vipriors'"):
        load_splits("fashion-vipriors", labels="labels.csv")
