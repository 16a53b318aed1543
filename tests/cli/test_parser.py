"""Who wins, and what was given."""

import pytest
import yaml

from hf_vipriors.cli.parser import Parser
from hf_vipriors.errors import InputError
from hf_vipriors.experiments.reproduce import ReproduceArguments
from hf_vipriors.scoring.evaluate import EvaluationArguments
from hf_vipriors.training import DataArguments, StudentArguments, TeacherArguments


@pytest.fixture(scope="module")
def parser():
    return Parser([DataArguments, TeacherArguments], "")


def test_defaults_then_recipe_then_command_line(parser, tmp_path):
    (tmp_path / "recipe.yaml").write_text("seed: 2\nmargin: 0.2\n")
    defaults = parser.checked({"seed": 1, "margin": 0, "subset_seed": 1, "backbone": None}, "mine")
    argv = ["--use_cpu", "--config", str(tmp_path / "recipe.yaml"), "--seed", "3"]
    data, args = parser.parse(argv, defaults)
    assert (args.seed, args.margin, data.subset_seed) == (3, 0.2, 1)
    assert isinstance(defaults["margin"], float) and args.backbone == "resnet18"
    data, args = parser.parse(["--use_cpu"])
    assert (args.seed, data.subset_seed) == (42, 0), "nothing is left of an earlier call"


@pytest.mark.parametrize("option", ["--auto_augment", "--mixup", "--lr_milestones", "--nesterov", "--backbone_args"])
def test_null_takes_back_what_a_recipe_says(option, tmp_path):
    said = {
        "auto_augment": "cifar10",
        "mixup": 0.3,
        "lr_milestones": [1, 2],
        "nesterov": False,
        "backbone_args": {"a": 1},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(said))
    parser, name = Parser([StudentArguments], ""), option[2:]
    recipe = ["--use_cpu", "--method", "supervised", "--config", str(tmp_path / "recipe.yaml")]
    (args,), (default,) = parser.parse(recipe), parser.parse(recipe[:3])
    assert getattr(args, name) == said[name] != getattr(default, name)
    on_the_command_line, joined = parser.parse([*recipe, option, "null"]), parser.parse([*recipe, f"{option}=null"])
    over = parser.parse(recipe[:3], parser.recipe(recipe[-1]) | parser.checked({name: None}, "mine"))
    for (args,) in (on_the_command_line, joined, over):
        assert args.to_dict() == default.to_dict() | {each: getattr(args, each) for each in said.keys() - {name}} | {
            name: getattr(default, name)
        }
        assert all(getattr(args, each) == value for each, value in said.items() if each != name)
    assert parser.given([option, "null", "--seed", "1"]) == {"seed"}


@pytest.mark.parametrize(("kind", "more"), [(TeacherArguments, True), (ReproduceArguments, False)])
def test_help_names_what_transformers_adds_only_where_it_does(kind, more, capsys):
    with pytest.raises(SystemExit):
        Parser([kind], "").parse(["--help"])
    shown = capsys.readouterr().out
    assert shown.count("--help_all") == 2 * more and ("transformers" in shown) == more
    with pytest.raises(SystemExit if more else InputError, match=None if more else "help_all"):
        Parser([kind], "").parse(["--help_all"])
    assert ("--adam_beta1" in capsys.readouterr().out) == more


@pytest.mark.parametrize("name", ["eval_strategy", "save_strategy", "logging_strategy"])
def test_no_is_a_word_where_there_is_such_a_choice(name, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"{name}: no\nuse_cpu: yes\n")
    (args,) = Parser([StudentArguments], "").parse(["--method", "supervised", "--config", str(recipe)])
    assert getattr(args, name) == "no"


def test_null_stands_alone(parser):
    with pytest.raises(InputError, match="crop_scale: null .* stands alone"):
        parser.parse(["--crop_scale", "null", "1"])


def test_what_was_given_is_what_stands_on_the_command_line(parser):
    argv = ["--config", "x.yaml", "--learning-rate=0.1", "--no_guards", "--crop_scale", "0.5", "1", "--odd"]
    assert parser.given(argv) == {"config", "learning_rate", "guards", "crop_scale"}
    assert parser.given([]) == set()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rat": 1}, ["mine: unknown option", "'learning_rate'"]),
        ({"seed": "many"}, ["mine: seed", "int", "many"]),
        ({"seed": True}, ["mine: seed", "int"]),
        ({"seed": 1.5}, ["mine: seed", "int"]),
        ({"use_cpu": "perhaps"}, ["mine: use_cpu", "perhaps"]),
    ],
)
def test_a_default_has_the_type_of_its_option(parser, settings, words):
    with pytest.raises(InputError) as error:
        parser.checked(settings, "mine")
    assert all(word in error.value.on_command_line for word in words) and "\n" not in error.value.on_command_line, (
        error.value
    )


def test_home_folders_are_found_wherever_a_path_comes_in(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("labels: ~/labels.csv\n")
    parser = Parser([DataArguments, EvaluationArguments], "")
    argv = ["--config=~/mine.yaml", "--data_dir=~", "--model", "~/one", "org/two", "--output=~/x.json"]
    data, args = parser.parse([*argv, "--dataset_config=~odd", "--report=./~/page"])
    assert (data.labels, data.data_dir, data.dataset_config) == (f"{tmp_path}/labels.csv", str(tmp_path), "~odd")
    assert args.model == [f"{tmp_path}/one", "org/two"]
    assert (args.output, args.report) == (f"{tmp_path}/x.json", "./~/page")
