"""evaluate.py --report: the page and its images, from students, teachers and what lies in their folders."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hf_vipriors.data import ImageStore
from hf_vipriors.evaluation.classification import score
from hf_vipriors.evaluation.features import Outputs
from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.scoring import evaluate
from hf_vipriors.scoring import report as evaluation_report
from hf_vipriors.scoring.evaluated import Evaluated
from hf_vipriors.scoring.report import find_mistakes, rows


def evaluated(photos, *options):
    data = ["--dataset_name", "imagefolder", "--data_dir", str(photos), "--device", "cpu", "--no_linear"]
    evaluate.main([*data, *options])


@pytest.fixture(scope="module")
def page_of_two(photos, classifier_folder, teacher_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports") / "new" / "report"
    evaluated(photos, "--model", str(teacher_folder), str(classifier_folder), "--report", str(folder))
    return folder


def test_the_page_shows_scores_images_and_how_the_models_were_trained(page_of_two, classifier_folder):
    page = (page_of_two / "report.html").read_text(encoding="utf-8")
    for heading in (
        "Which classes, which confusions",
        "A map of the features",
        "Is it right as often as it is sure?",
        "How it was trained",
        "Every measurement",
        "Do it again",
    ):
        assert heading in page, heading
    found = json.loads((classifier_folder / "metrics.json").read_text())["test"]
    assert f'<b class="top1">{100 * found["top1"]:.1f}</b>' in page
    assert "images of one model alone: classifier" in page and "teacher, kNN" in page and "classifier, top-1" in page
    assert "--report" in page


def test_the_page_needs_nothing_else(page_of_two):
    page = (page_of_two / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|iframe)\b", page)
    assert all(source.startswith("data:image/png") for source in re.findall(r'\bsrc="([^"]*)"', page))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert ids and len(ids) == len(set(ids))


def test_every_image_is_a_file_too(page_of_two):
    names = {path.name for path in page_of_two.iterdir()}
    images = {"confusion.png", "feature_map.png", "learning_curves.png", "reliability.png", "saliency.png"}
    # A model that errs nowhere has no mistakes to explain.
    assert names - {"saliency.png"} == {"report.html"} | images - {"saliency.png"}
    assert all((page_of_two / name).read_bytes().startswith(b"\x89PNG") for name in names - {"report.html"})


def test_a_teacher_alone_has_a_page_without_what_only_classifiers_have(teacher_folder, photos, tmp_path):
    evaluated(photos, "--model", str(teacher_folder), "--report", str(tmp_path / "report"))
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "report.html", "feature_map.png", "learning_curves.png"
    }  # fmt: skip
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "teacher, kNN" in page and "chance" in page
    assert "worst mistakes" not in page and "as often as it is sure" not in page and "confusions" not in page


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_nothing_of_the_users_is_overwritten(kind, classifier_folder, photos, tmp_path, capsys):
    place = tmp_path / "mine"
    if kind == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        evaluated(photos, "--model", str(classifier_folder), "--report", str(place))
    assert "--report" in capsys.readouterr().err.replace("\n", "")
    assert (place if kind == "file" else place / "notes.txt").read_text() == "mine"


def test_a_damaged_log_is_named(classifier_folder, photos, tmp_path, capsys):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in classifier_folder.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    (copy / "trainer_state.json").write_text("{")
    with pytest.raises(SystemExit):
        evaluated(photos, "--model", str(copy), "--no_knn", "--report", str(tmp_path / "report"))
    assert "trainer_state.json" in capsys.readouterr().err.replace("\n", "")


# --- from what was measured -----------------------------------------------------------------------------------------

NAMES = ["cat", "dog", "owl"]


class Quarters(torch.nn.Module):
    """Each of the model's outputs looks at one quarter of the image."""

    def forward(self, images):
        quarters = (images[..., :16, :16], images[..., :16, 16:], images[..., 16:, 16:])
        return torch.stack([quarter.mean((1, 2, 3)) for quarter in quarters], 1)


@pytest.fixture
def measured(tiny_config):
    """A model whose outputs stand in another order than the classes of the data set; 3 of 4 predictions are wrong."""
    model = VipriorsForImageClassification(tiny_config(classes=3))
    model.backbone = Quarters()
    predictions = torch.tensor([[0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.05, 0.05, 0.9], [0.0, 0.0, 1.0]])
    labels = torch.tensor([0, 1, 0, 2])
    scored = score(predictions, labels, NAMES)
    splits = SimpleNamespace(class_names=NAMES, splits={"test": range(4)})
    found = {"out/a": Outputs(predictions, labels)}
    return Evaluated({"out/a": model}, splits, "test", {"out/a": {"top-1": scored}}, found, {"out/a": [2, 0, 1]})


def test_the_surest_mistakes_come_first_and_the_predicted_class_is_explained(measured):
    images = torch.arange(4)[:, None, None, None].expand(4, 1, 32, 32).to(torch.uint8).contiguous() * 60
    store = ImageStore(images, measured.predictions["out/a"].labels)
    found = find_mistakes(measured, store, batch_size=2, device="cpu")
    assert [(int(image[0, 0]), true, guess) for image, true, guess, _ in found.shown] == [
        (120, 0, 2),
        (0, 0, 1),
        (60, 1, 0),
    ]
    assert [confidence for *_, confidence in found.shown] == pytest.approx([0.9, 0.8, 0.6])
    # Predicted owl, dog, cat: the model's outputs 1, 0, 2, which look upper right, upper left, lower right.
    strongest = [np.unravel_index(each.argmax(), each.shape) for each in found.maps]
    assert [(row < 16, column < 16) for row, column in strongest] == [(True, False), (True, True), (False, False)]


def test_without_mistakes_there_is_nothing_to_explain(measured):
    right = Outputs(torch.eye(3), torch.arange(3))
    measured.predictions["out/a"] = right
    store = ImageStore(torch.zeros(3, 1, 32, 32, dtype=torch.uint8), right.labels)
    assert find_mistakes(measured, store, batch_size=2, device="cpu").shown == []


def test_classifiers_are_compared_with_the_first_on_the_same_images(measured):
    better = Outputs(torch.eye(3)[[0, 1, 0, 2]], torch.tensor([0, 1, 0, 2]))
    measured.models["out/b"] = measured.models["out/a"]
    measured.results["out/b"] = {"top-1": score(better.values, better.labels, NAMES)}
    measured.predictions["out/b"] = better
    first, second = rows(measured)
    assert (first.name, first.baseline, second.name, second.baseline) == ("a", True, "b", False)
    assert first.correct[0].tolist() == [False, False, False, True] and second.correct[0].all()


def test_folders_of_the_same_name_keep_their_whole_names(measured):
    assert measured.label("out/a") == "a"
    measured.results["other/a"] = {}
    assert measured.label("out/a") == "out/a"


def test_the_verdict_names_the_worst_class(measured):
    (line,) = evaluation_report.verdict(measured)
    assert line.startswith("a is right on 25.0 % of the images; on its worst class, cat, 0.0 %.")
