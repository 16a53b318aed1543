"""Searches that draw the network, at the same compute."""

import json
import math
from pathlib import Path

import pytest
import yaml
from tiny_runs import TINY

from hf_vipriors.backbones import forward_operations
from hf_vipriors.cli.student import main
from hf_vipriors.search.space import SearchSpace
from hf_vipriors.search.trials import SearchTrainer
from hf_vipriors.training.recipe_of_run import recipe_text
from hf_vipriors.training.run_files import read_run

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes" / "search"


def read(folder, name):
    return json.loads((folder / name).read_text())


def test_widths_are_drawn_at_the_same_compute(options, space, measured, monkeypatch, tmp_path, capsys):
    taken, finish = [], SearchTrainer.finish
    monkeypatch.setattr(SearchTrainer, "finish", lambda self: taken.append(self.state.global_step) or finish(self))
    tuned, other = tmp_path / "tuned", tmp_path / "other"
    options, wide = [*options, "--num_train_epochs", "4"], TINY | {"channels": [16, 16, 32, 32]}
    widths = space({"backbone_args": [TINY, wide]})
    main([*options, "--trials", "3", *widths, "--output_dir", str(tuned)])
    found, state = read(tuned, "search.json"), read(tuned, "trainer_state.json")
    drawn = [trial["settings"]["backbone_args"] for trial in found["all_trials"]]
    assert drawn[0] == TINY and wide in drawn, "the run's own network first"
    costs = [forward_operations("resnet18", image_size=32, backbone_args=each) for each in (TINY, wide)]
    steps = {json.dumps(TINY): 24, json.dumps(wide): math.ceil(24 * costs[0] / costs[1])}
    assert state["global_step"] == steps[json.dumps(found["settings"]["backbone_args"])]
    assert taken[:3] == [steps[json.dumps(each)] for each in drawn], "of the trials too"
    last = [entry for entry in state["log_history"] if "eval_top1" in entry][-1]
    assert (last["eval_loss"], last["eval_top1"]) == measured[found["best_trial"]]

    found["settings"]["backbone_args"] = wide
    (tuned / "search.json").write_text(json.dumps(found))
    capsys.readouterr()
    main([*options, "--settings_of", str(tuned), "--output_dir", str(other)])
    assert read(other, "trainer_state.json")["global_step"] == steps[json.dumps(wide)] < 24
    assert "times the operations of the network that was given (resnet18)" in " ".join(capsys.readouterr().err.split())
    assert read(other, "config.json")["model_args"]["channels"] == wide["channels"]

    recipe = yaml.safe_load(recipe_text(read_run(other), found["settings"]))
    assert recipe["num_train_epochs"] == pytest.approx(4 * costs[0] / costs[1]) and recipe["backbone_args"] == wide


def test_a_teachers_weights_fit_one_network(options, space, teacher_folder, tmp_path, capsys):
    command = [*options, "--teacher", str(teacher_folder), "--trials", "1", *space({"backbone": ["resnet34"]})]
    with pytest.raises(SystemExit):
        main([*command, "--output_dir", str(tmp_path / "never")])
    assert "the weights of --teacher fit only its own network" in capsys.readouterr().err
    main([*command, "--student_init", "scratch", "--output_dir", str(tmp_path / "tuned")])
    assert read(tmp_path / "tuned", "metrics.json")["search"]["settings"] == {"backbone": "resnet34"}

    command = [*options, "--teacher", str(teacher_folder), "--settings_of", str(tmp_path / "tuned")]
    with pytest.raises(SystemExit):
        main([*command, "--output_dir", str(tmp_path / "never")])
    assert "the weights of --teacher fit only its own network" in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


def test_the_first_trial_has_the_network_that_follows_from_defaults(common, space, tmp_path):
    names = space({"backbone": ["resnet34", "resnet18", "resnet26"]})
    command = [*common, "--backbone", "null", "--backbone_args", "null", "--method", "supervised", "--max_steps", "1"]
    main([*command, "--trials", "1", *names, "--output_dir", str(tmp_path / "tuned")])
    assert read(tmp_path / "tuned", "search.json")["settings"] == {"backbone": "resnet18"}


@pytest.mark.parametrize(
    ("options_of_space", "change", "words"),
    [
        ({"backbone": ["test_resnet", "resnett18"]}, [], ["space.yaml", "resnett18", "resnet18"]),
        ({"backbone_args": [{"chanels": [8]}]}, [], ["space.yaml", "resnet18", "chanels"]),
        (
            {"backbone": ["resnet18", "cifar_wrn_16_1"]},
            ["--harmonic", "weights", "--harmonic_level", "6"],
            ["space.yaml", "level 6"],
        ),
        (
            {"backbone": ["resnet18"], "image_size": {"low": 32, "high": 64}},
            ["--image_size", "null"],
            ["image_size wants [choices]"],
        ),
        ({"backbone_args": [{"in_chans": 1}]}, [], ["space.yaml", "in_chans", "three"]),
        ({"backbone": ["resnet18"], "num_train_epochs": [1]}, [], ["follows from its network", "num_train_epochs"]),
        (
            {"backbone": ["resnet18"]},
            ["--student_init", "somewhere"],
            ["--student_init somewhere", "fits one network"],
        ),
        (
            {"backbone": ["resnet18", "vit_tiny_patch16_224"], "image_size": [32, 40]},
            ["--backbone_args", "null", "--image_size", "null"],
            ["space.yaml", "vit_tiny_patch16_224", "40 px"],
        ),
    ],
)
def test_networks_that_cannot_be_drawn_are_refused(common, space, refused, options_of_space, change, words):
    line = refused([*common, "--method", "supervised", "--trials", "2", *space(options_of_space), *change])
    assert all(word in line for word in words), line


def test_widths_that_ship_are_those_of_the_recipes_network_and_one_arm_has_all_but_them():
    space, without = (SearchSpace.read(name) for name in ("width", "rate"))
    recipe = yaml.safe_load((RECIPES.parent / "cifar10_student.yaml").read_text())
    (widths,) = [each for each in space.dimensions if each.name == "backbone_args"]
    assert recipe["backbone_args"] in widths.choices, "the first trial has the recipe's settings"
    costs = [forward_operations("resnet18", image_size=48, backbone_args=each) for each in widths.choices]
    assert costs == sorted(costs) and costs[-1] > 6 * costs[0]
    assert [each for each in space.dimensions if each is not widths] == list(without.dimensions)
