"""Images that are trained on and measured on are said before the first step, and reach the card."""

import io
import json
import shutil

import numpy as np
import pytest
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from hf_vipriors.cli.student import main as train_student
from hf_vipriors.cli.teacher import main as train_teacher
from hf_vipriors.data.exact_copies import copies_between
from hf_vipriors.training import leaks


def said(folder):
    return {each["kind"]: each for each in json.loads((folder / "metrics.json").read_text())["warnings"]}


@pytest.fixture
def leaking(photos, tmp_path):
    """A training image lies in test too, as a file of another format, and a pool image in validation."""
    shutil.copytree(photos, tmp_path / "photos")
    Image.open(photos / "train" / "red" / "3.png").save(tmp_path / "photos" / "test" / "red" / "copy.bmp")
    shutil.copy(photos / "unlabelled" / "0.png", tmp_path / "photos" / "validation" / "red" / "pool.png")
    return tmp_path / "photos"


def test_a_student_and_a_teacher_say_what_they_see_twice(student_options, teacher_options, leaking, tmp_path, caplog):
    options = ["--data_dir", str(leaking), "--max_steps", "1", "--save_strategy", "no"]
    train_student([*student_options, *options, "--method", "supervised", "--output_dir", str(tmp_path / "student")])
    found = said(tmp_path / "student")
    assert "copies_train_test" in found and not {"copies_unlabelled_validation"} & found.keys(), "no pool is used"
    text = found["copies_train_test"]["text"]
    assert text.startswith("1 of 13 test images are in train too") and "copy.bmp" in text and "3.png" in text
    assert text in (tmp_path / "student" / "README.md").read_text()
    train_teacher([*teacher_options, *options, "--output_dir", str(tmp_path / "teacher")])
    assert {"copies_train_test", "copies_unlabelled_validation"} <= said(tmp_path / "teacher").keys()


def test_without_copies_or_guards_nothing_is_said(student_options, leaking, tmp_path, caplog):
    options = [*student_options, "--method", "supervised", "--max_steps", "1", "--save_strategy", "no"]
    train_student([*options, "--output_dir", str(tmp_path / "clean")])
    assert not any(kind.startswith("copies") for kind in said(tmp_path / "clean"))
    train_student([*options, "--data_dir", str(leaking), "--guards", "false", "--output_dir", str(tmp_path / "off")])
    assert said(tmp_path / "off") == {}


def table(*images):
    rows = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    return Dataset.from_dict({"image": rows}, features=Features({"image": ImageFeature(decode=False)}))


def test_copies_small_and_large_and_only_those():
    noise = np.random.default_rng(0).integers(0, 256, (2, 300, 300), dtype=np.uint8)
    large, other = map(Image.fromarray, noise)
    small, gray = Image.fromarray(noise[0, :20, :20]), Image.new("L", (20, 20), 7)
    train, test = table(large, small, small), table(other, gray, small, large)
    (found,) = copies_between({"train": train}, {"test": test})
    assert found.count == 2
    assert found.pairs == [("train row 1", "test row 2"), ("train row 0", "test row 3")]
    assert copies_between({"train": table(large, small)}, {"test": table(other, gray)}) == []


def test_large_data_sets_are_passed_by(student_options, leaking, tmp_path, monkeypatch):
    monkeypatch.setattr(leaks, "MOST_IMAGES", 10)
    options = ["--data_dir", str(leaking), "--method", "supervised", "--max_steps", "1", "--save_strategy", "no"]
    train_student([*student_options, *options, "--output_dir", str(tmp_path / "student")])
    assert "copies_train_test" not in said(tmp_path / "student")
