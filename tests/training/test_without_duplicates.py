"""Where ciFAIR lists test images, a student has a second score without them, wherever it is scored."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from hf_vipriors.cli.student import main as train_student
from hf_vipriors.data import cifair
from hf_vipriors.evaluation.classification import score
from hf_vipriors.evaluation.features import Outputs
from hf_vipriors.evaluation.predictions import read_predictions
from hf_vipriors.evaluation.without_duplicates import scores
from hf_vipriors.experiments.table_jobs import StudentsArguments, evaluate_students
from hf_vipriors.scoring import evaluate
from hf_vipriors.training import DataArguments

NAMES = ["blue", "green", "red"]


@pytest.fixture(scope="module")
def small(photos, tmp_path_factory):
    """The photos at 32 x 32 pixels."""
    root = tmp_path_factory.mktemp("small") / "photos"
    shutil.copytree(photos, root)
    for path in root.rglob("*.png"):
        Image.open(path).resize((32, 32)).save(path)
    return root


@pytest.fixture
def listed(small, monkeypatch):
    """Two of the twelve test images, the first and the last but one, are listed."""
    files = [small / "test" / "blue" / "0.png", small / "test" / "red" / "2.png"]
    sums = frozenset(hashlib.sha256(np.asarray(Image.open(file)).tobytes()).digest()[:8] for file in files)
    monkeypatch.setattr(cifair, "_listed", lambda: sums)
    return [0, 10]


@pytest.fixture
def options(student_options, small):
    more = ["--data_dir", str(small), "--image_size", "40", "--max_steps", "6", "--save_strategy", "no"]
    return [*student_options, *more, "--method", "supervised"]


def test_a_second_score_in_metrics_card_evaluation_and_table(options, small, listed, tmp_path, capsys):
    folders = [tmp_path / name for name in ("one", "two")]
    for seed, folder in enumerate(folders):
        train_student([*options, "--seed", str(seed), "--output_dir", str(folder)])
    rest = np.delete(np.arange(12), listed)
    metrics = json.loads((folders[0] / "metrics.json").read_text())
    found, predictions = metrics["test_without_duplicates"], read_predictions(folders[0])
    again = score(predictions.values[rest], predictions.labels[rest], NAMES)
    assert (found["count"], found["top1"], found["confusion"]) == (10, again.top1, again.confusion)
    assert metrics["test"]["count"] == 12
    card = (folders[0] / "README.md").read_text()
    assert "CIFAR-10 test without ciFAIR's 2 duplicates, 10 images" in card and "this is not ciFAIR-10" in card
    assert card.count("type: accuracy") == 1, "the second score is no result on the data set"
    assert "CIFAR-10 test without ciFAIR's 2 duplicates, 10 images: top-1" in " ".join(capsys.readouterr().err.split())

    data = ["--dataset_name", "imagefolder", "--data_dir", str(small), "--device", "cpu", "--no_knn", "--no_linear"]
    output = tmp_path / "scores.json"
    evaluate.main([*data, "--model", *map(str, folders), "--output", str(output)])
    kinds = json.loads(output.read_text())["scores"]
    assert list(kinds) == [*map(str, folders), "ensemble of 2"]
    for each in kinds.values():
        assert list(each) == ["top-1", "top-1 without ciFAIR's 2 duplicates"]
    assert kinds[str(folders[0])]["top-1 without ciFAIR's 2 duplicates"] == found
    assert "duplicates" in capsys.readouterr().out

    together = DataArguments(dataset_name="imagefolder", data_dir=str(small))
    evaluate_students(together, StudentsArguments([*map(str, folders)], output_dir=str(tmp_path / "both")))
    both = json.loads((tmp_path / "both" / "metrics.json").read_text())
    assert both["test_without_duplicates"] == kinds["ensemble of 2"]["top-1 without ciFAIR's 2 duplicates"]


def test_nothing_changes_where_no_image_is_listed(options, tmp_path):
    train_student([*options, "--output_dir", str(tmp_path / "student")])
    assert "test_without_duplicates" not in json.loads((tmp_path / "student" / "metrics.json").read_text())
    assert "uplicates" not in (tmp_path / "student" / "README.md").read_text()


def test_images_that_changed_meanwhile_never_cost_a_finished_training(caplog):
    outputs = Outputs(torch.eye(3)[[0, 1, 2, 2]], torch.tensor([0, 1, 2, 0]))
    whole, rest = scores(outputs, NAMES, np.array([True, False, False, False]))
    assert (whole.count, whole.top1, rest.count, rest.top1) == (4, 0.75, 3, 2 / 3) and not caplog.text
    assert scores(outputs, NAMES, np.ones(4, dtype=bool)) == [whole], "no image would be left"
    assert scores(outputs, NAMES, np.array([True, False])) == [whole] and "images changed" in caplog.text
