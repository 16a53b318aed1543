"""The recipe of a run, where a search or a time limit decided something beside what was given."""

import pytest
import yaml

from hf_vipriors.training.recipe_of_run import recipe_text
from hf_vipriors.training.run_files import RunRecord


def recipe(given, resolved, searched):
    arguments = {"method": "overhaul", "optim": "sgd"} | given
    return yaml.safe_load(recipe_text(RunRecord("train_student", {}, arguments, resolved), searched))


def test_lengths_that_a_found_network_has_win_over_those_that_were_found_for_the_network_that_was_given():
    searched = {"backbone_args": {"channels": [8, 16]}, "distil_from_epoch": 12.0, "weight_decay": 0.01}
    resolved = {"distil_from_epoch": 3.0, "num_train_epochs": 25.0, "warmup_steps": 40.0, "dataloader_num_workers": 0}
    found = recipe({"num_train_epochs": 80.0, "warmup_steps": 120.0}, resolved, searched)
    lengths = {"distil_from_epoch": 3.0, "num_train_epochs": 25.0, "warmup_steps": 40.0}
    others = {"backbone_args": {"channels": [8, 16]}, "weight_decay": 0.01}
    assert found == lengths | others, "and what is the default is left out"


def test_a_found_base_rate_replaces_a_given_rate():
    assert recipe({"learning_rate": 0.05}, {}, {"base_learning_rate": 0.3}) == {"base_learning_rate": 0.3}
    assert recipe({"learning_rate": 0.05}, {}, {"learning_rate": 0.3}) == {"learning_rate": 0.3}


@pytest.mark.parametrize("place", ["there", "gone/teacher", "outputs/quickstart/teacher"])
def test_networks_of_this_machine_are_named_and_left_out(place, tmp_path):
    (tmp_path / "there").mkdir()
    where = place if place.startswith("outputs") else str(tmp_path / place)
    data = {"images_per_class": 5, "choose_with": where}
    text = recipe_text(RunRecord("train_student", data, {"teacher": where}), {})
    assert where not in text and yaml.safe_load(text) == {"images_per_class": 5}
    for name in ("choose_with", "teacher"):
        assert f"--{name}: {place.rpartition('/')[2]}, a folder of a training before this one" in text
    hub = RunRecord("train_student", {}, {"teacher": "me/teacher", "student_init": "timm/resnet18.a1_in1k"})
    assert yaml.safe_load(recipe_text(hub, {})) == {"teacher": "me/teacher", "student_init": "timm/resnet18.a1_in1k"}
