"""A folder of new images through finished models: what pipeline() says of them, as a table, and sorted copies."""

import csv
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from transformers import pipeline

from hf_vipriors.files import file_names
from hf_vipriors.inference.predict import PredictArguments, main, predict

ODD = 'sub folder/wé, "ird".png'


@pytest.fixture(scope="module")
def new(photos, tmp_path_factory):
    """Images in a layout of nobody's, one of them broken, one in gray, one of 16 bits, and a file that is none."""
    root = tmp_path_factory.mktemp("new")
    for number, source in enumerate(sorted((photos / "test").rglob("*.png"))):
        target = root / (ODD if number == 0 else f"{number % 3}/{number}.png")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    Image.linear_gradient("L").save(root / "gray.png")
    Image.fromarray(np.full((20, 20), 60000, dtype=np.uint16)).save(root / "scan.tif")
    (root / "broken.jpg").write_bytes(b"no image")
    (root / "notes.txt").write_text("not an image")
    return root


@pytest.fixture(scope="module")
def table(new, classifier_folder, tmp_path_factory):
    """path -> row, of one model."""
    output = tmp_path_factory.mktemp("tables") / "predictions.csv"
    main(["--model", str(classifier_folder), "--data_dir", str(new), "--output", str(output), "--batch_size", "5"])
    with open(output, newline="", encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_every_image_has_the_class_that_pipeline_gives_it(table, new, classifier_folder):
    classify = pipeline("image-classification", model=str(classifier_folder), top_k=3)
    images = sorted(path.relative_to(new).as_posix() for path in new.rglob("*.png"))
    assert ODD in images and set(table) == {*images, "broken.jpg", "scan.tif"}
    for path in images:
        row, wanted = table[path], classify(str(new / path))
        assert [row["class"], row["class_2"], row["class_3"]] == [each["label"] for each in wanted]
        scores = [each["score"] for each in wanted]
        assert float(row["confidence"]) == pytest.approx(scores[0], abs=1e-5)
        assert float(row["margin"]) == pytest.approx(scores[0] - scores[1], abs=1e-5)
        assert not row["error"]
    assert len({row["confidence"] for row in table.values()}) > 10, "the images must make a difference"


def test_what_cannot_be_read_is_listed_with_the_reason(table):
    wide = "its gray values, 0 to 60000, do not fit the model's 8 bits: save it with 8 bits"
    for path, error in (("broken.jpg", "not an image that Pillow knows"), ("scan.tif", wide)):
        row = table[path]
        assert row["error"] == error and not row["class"] and not row["confidence"]


def test_a_model_that_was_trained_on_wide_images_sees_new_ones_beside_one_that_was_not(
    table, new, classifier_folder, tmp_path
):
    wide = tmp_path / "wide"
    shutil.copytree(classifier_folder, wide)
    config = json.loads((wide / "config.json").read_text())
    (wide / "config.json").write_text(json.dumps(config | {"full_scale": 65535}))
    for name, models, errors in (("one", [wide], ["broken.jpg"]), ("two", [wide, classifier_folder], ["scan.tif"])):
        predict(PredictArguments(list(map(str, models)), str(new), str(tmp_path / f"{name}.jsonl")))
        rows = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert {row["path"] for row in rows if row["error"]} == {"broken.jpg", *errors}
        for row in rows:  # beside each other, though only one of the two can read a row
            assert row["path"] == "scan.tif" or row["class"] == (table[row["path"]]["class"] or None)


def test_the_formats_hold_the_same(table, new, classifier_folder, tmp_path):
    for name in ("p.jsonl", "p.parquet"):
        predict(PredictArguments([str(classifier_folder)], str(new), str(tmp_path / name), batch_size=64))
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()]
    assert pq.read_table(tmp_path / "p.parquet").to_pylist() == lines
    for line in lines:
        assert {key: "" if value is None else str(value) for key, value in line.items()} == table[line["path"]]


def test_several_models_are_averaged_by_the_names_of_their_classes(table, new, classifier_folder, tmp_path):
    other = tmp_path / "turned"
    shutil.copytree(classifier_folder, other)
    config = json.loads((other / "config.json").read_text())
    names = config["label_names"]
    config["label_names"] = [names[1], names[2], names[0]]  # the same weights under other names
    (other / "config.json").write_text(json.dumps(config))
    both = [str(classifier_folder), str(other)]
    predict(PredictArguments(both, str(new), str(tmp_path / "both.jsonl"), top_k=3))
    for line in map(json.loads, (tmp_path / "both.jsonl").read_text(encoding="utf-8").splitlines()):
        if line["error"] is None:
            row = table[line["path"]]
            alone = {row[f"class{at}"]: float(row[f"confidence{at}"]) for at in ("", "_2", "_3")}
            mean = {name: (alone[name] + alone[names[names.index(name) - 1]]) / 2 for name in names}
            assert line["confidence"] == pytest.approx(mean[line["class"]], abs=1e-5)
            assert line["class"] == max(mean, key=mean.get)


def test_copies_are_sorted_and_the_originals_stay(table, new, classifier_folder, tmp_path, contents):
    before = contents(new)
    target = tmp_path / "sorted"
    options = ["--output", str(tmp_path / "p.csv"), "--copy_into", str(target)]
    main(["--model", str(classifier_folder), "--data_dir", str(new), *options])
    assert contents(new) == before
    copies = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert copies == {f"{row['class']}/{path}" for path, row in table.items() if row["class"]}
    assert (target / table[ODD]["class"] / ODD).read_bytes() == before[new / ODD]


def test_a_class_whose_name_no_folder_can_have_is_said_to_be_renamed(new, classifier_folder, tmp_path, capsys):
    odd = tmp_path / "odd"
    shutil.copytree(classifier_folder, odd)
    config = json.loads((odd / "config.json").read_text())
    config["label_names"] = ["a/b", *config["label_names"][1:]]
    (odd / "config.json").write_text(json.dumps(config))
    options = ["--output", str(tmp_path / "p.csv"), "--copy_into", str(tmp_path / "sorted")]
    main(["--model", str(odd), "--data_dir", str(new / "0"), *options])
    assert "no folder can be called 'a/b': it is called 'a_b'" in capsys.readouterr().err


def refused(capsys, *options):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, options)))
    assert stop.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    return line


def test_mistakes_are_one_line_and_write_nothing(capsys, new, classifier_folder, teacher_folder, tmp_path):
    there = tmp_path / "there.csv"
    there.write_text("mine")
    good = ["--model", classifier_folder, "--data_dir", new]
    assert "--model DIR is missing" in refused(capsys, "--data_dir", new)
    assert "exists: choose another" in refused(capsys, *good, "--output", there)
    assert "ends in .csv" in refused(capsys, *good, "--output", tmp_path / "p.txt")
    assert "exists: choose another" in refused(capsys, *good, "--output", tmp_path / "p.csv", "--copy_into", new)
    assert "no classifier" in refused(capsys, "--model", teacher_folder, *good[2:], "--output", tmp_path / "p.csv")
    one, other = tmp_path / "one.csv", tmp_path / "x" / ".." / "one.csv"
    for output, folder in ((one, one), (one, other), (one / "p.csv", other), (one, one / "sorted")):
        line = refused(capsys, *good, "--output", output, "--copy_into", folder)
        assert f"one of --output {output} and --copy_into {folder} lies in the other" in line
    (tmp_path / "empty").mkdir()
    assert "no image" in refused(
        capsys, *good[:2], "--data_dir", tmp_path / "empty", "--output", tmp_path / "p.csv", "--copy_into",
        tmp_path / "sorted",
    )  # fmt: skip
    assert there.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "there.csv"]


def test_names_of_classes_become_names_of_folders():
    names = file_names(["a/b", "a:b", "A/b", "..", "", "x" * 300, "x" * 301])
    assert names["a/b"] == "a_b" and names["a:b"] == "a_b (2)" and names["A/b"] == "A_b (3)"
    assert len({name.casefold() for name in names.values()}) == 7
    assert all(name not in ("", ".", "..") and "/" not in name and len(name) < 255 for name in names.values())


def test_a_device_that_does_not_exist_is_one_line(capsys, new, classifier_folder, tmp_path):
    for device in ("nowhere", "cuda:99"):
        given = ["--data_dir", new, "--output", tmp_path / "p.csv", "--device", device]
        assert f"--device {device} cannot be used" in refused(capsys, "--model", classifier_folder, *given)
    assert not list(tmp_path.iterdir())
