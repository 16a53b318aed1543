"""The teacher that ships with the package is the one its recipe and its card describe."""

import json
from pathlib import Path

import pytest
import yaml

from hf_vipriors.hub.embedded import FASHION_TEACHER, embedded_teacher
from hf_vipriors.hub.teachers import load_ours, load_teacher
from hf_vipriors.models import VipriorsModel
from hf_vipriors.scoring import evaluate

RECIPE = Path(__file__).parents[2] / "scripts" / "recipes" / "fashion_teacher.yaml"
FOLDER = embedded_teacher()
METRICS = json.loads((FOLDER / "metrics.json").read_text())


def test_it_is_small():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 4e6


@pytest.mark.parametrize("load", [load_teacher, lambda name: load_ours(name, "student_init")])
def test_its_name_is_enough(load):
    teacher = load(FASHION_TEACHER)
    assert isinstance(teacher, VipriorsModel) and not teacher.training


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    config = VipriorsModel.from_pretrained(FOLDER).config
    config.projector_dim = 8
    monkeypatch.chdir(tmp_path)
    VipriorsModel(config).save_pretrained(FASHION_TEACHER)
    assert load_teacher(FASHION_TEACHER).config.projector_dim == 8


def test_it_is_what_its_recipe_makes():
    recipe, config = yaml.safe_load(RECIPE.read_text()), VipriorsModel.from_pretrained(FOLDER).config
    for name in ("backbone", "backbone_args", "image_size", "crop_pct"):
        assert getattr(config, name) == recipe[name]
    card = (FOLDER / "README.md").read_text()
    for name in ("num_train_epochs", "learning_rate", "seed", "bf16", "crop_scale", "temperature", "optim"):
        shown = next(line.split("|")[2].strip() for line in card.splitlines() if line.startswith(f"| {name} |"))
        wanted = float(recipe[name]) if name == "num_train_epochs" else recipe[name]
        assert shown == str(wanted), name
    states = json.loads((FOLDER / "trainer_state.json").read_text())
    assert states["epoch"] == recipe["num_train_epochs"]


def test_its_card_shows_what_was_measured():
    card = (FOLDER / "README.md").read_text()
    assert f"value: {METRICS['knn']['top1']}" in card and f"value: {METRICS['linear']['top1']}" in card


@pytest.mark.slow
def test_its_features_are_as_good_as_its_card_says(tmp_path):
    output = tmp_path / "scores.json"
    evaluate.main(["--model", FASHION_TEACHER, "--no_linear", "--output", str(output)])
    found = json.loads(output.read_text())["scores"][FASHION_TEACHER]["kNN"]
    assert abs(found["top1"] - METRICS["knn"]["top1"]) < 0.002
