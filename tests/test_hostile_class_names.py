"""One set of class names that markup, mathematics, templates or a terminal would read goes through the commands."""

from __future__ import annotations

import html
import json
import warnings

import numpy as np
import pytest
from PIL import Image

from hf_vipriors.advice import advise
from hf_vipriors.cli import push, student, teacher
from hf_vipriors.scoring import evaluate

# A folder is a class: "/" cannot be in its name. tests/test_terminal.py has one.
NAMES = [
    "n-a []", "shirt [red]", "[bold]x[-bold]", "__background__", "<unknown>", "`code`", "[a](b)", r"$\frac{1}{2}$",
    "a_b^{c", "$x_", "\x1b[31mred", "猫", "قطة", "🐱", "a|b", "it's \"so\"", "two\nlines", "long" * 50, "{{ jinja }}",
    "%s",
]  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root, random = tmp_path_factory.mktemp("hostile"), np.random.default_rng(0)
    for split, count in (("train", 2), ("validation", 1), ("test", 1)):
        for name in NAMES:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 255, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def options(images, common):
    own = [str(images) if each == common[common.index("--data_dir") + 1] else each for each in common]
    return [*own, "--max_steps", "2", "--per_device_train_batch_size", "8", "--save_strategy", "no"]


@pytest.fixture(scope="module")
def trained(options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "student"
    student.main([*options, "--method", "supervised", "--output_dir", str(folder)])
    return folder


def test_the_student_knows_every_class_by_its_name(trained):
    assert set(json.loads((trained / "config.json").read_text())["label_names"]) == set(NAMES)
    assert set(json.loads((trained / "metrics.json").read_text())["test"]["per_class"]) == set(NAMES)


def test_a_teacher_trains_on_them(options, tmp_path, capfd):
    teacher.main([*options, "--projector_dim", "8", "--output_dir", str(tmp_path / "teacher")])
    assert (tmp_path / "teacher" / "metrics.json").is_file()
    assert "\x1b" not in "".join(capfd.readouterr())


def test_evaluate_writes_and_shows_every_name(trained, images, tmp_path, capfd):
    output, report = tmp_path / "scores.json", tmp_path / "report"
    data = ["--dataset_name", "imagefolder", "--data_dir", str(images), "--model", str(trained), "--no_linear"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        evaluate.main([*data, "--device", "cpu", "--output", str(output), "--report", str(report)])
    (kinds,) = json.loads(output.read_text())["scores"].values()
    assert set(kinds["top-1"]["per_class"]) == set(NAMES)
    page = html.unescape((report / "report.html").read_text(encoding="utf-8"))
    assert [name for name in NAMES if name not in page] == []
    shown = capfd.readouterr()
    assert "\x1b" not in shown.out + shown.err
    plain = [name for name in NAMES if name.isascii() and name.isprintable() and len(name) < 20]
    assert [name for name in plain if name not in shown.out] == []
    assert "␛[31mred" in shown.out


def test_advise_writes_and_shows_every_name(images, tmp_path, capfd):
    output = tmp_path / "advice.json"
    advise.main(["--data_dir", str(images), "--device", "cpu", "--trial_steps", "0", "--output", str(output)])
    assert set(json.loads(output.read_text())["per_class"]) == set(NAMES)
    shown = capfd.readouterr()
    assert "\x1b" not in shown.out + shown.err and "shirt [red]" in shown.out and "[bold]x[-bold]" in shown.out


def test_push_shows_the_card_without_escape_bytes(trained, capfd):
    push.main(["--model", str(trained), "--repo_id", "me/hostile", "--dry_run"])
    assert "\x1b" not in "".join(capfd.readouterr())
