import math

import optuna
import pytest

from hf_vipriors.errors import InputError
from hf_vipriors.search.space import SearchSpace, searchable, tuned_arguments
from hf_vipriors.training import StudentArguments
from hf_vipriors.training.resolve import resolve

SPACE = {
    "learning_rate": {"low": "1e-3", "high": 0.1, "log": True},  # YAML reads 1e-3 as a word
    "weight_decay": {"low": 0, "high": 0.01},
    "gradient_accumulation_steps": {"low": 1, "high": 4},
    "mixup": [0, 0.3],
    "auto_augment": [None, "cifar10"],
    "crop_scale": [[0.3, 1], [0.5, 1.0]],
    "nesterov": [True, False],
    "hint_stage": [1, 2, None],
    "backbone_args": [{"channels": [8, 16]}, None],
}


@pytest.fixture
def study():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))


@pytest.fixture
def given(tmp_path):
    def make(**options):
        options = {"method": "supervised", "use_cpu": True, "output_dir": str(tmp_path), "report_to": "none"} | options
        return StudentArguments(**options)

    return make


def test_draws_are_of_the_options_types_and_within_the_space(study):
    space = SearchSpace.of(SPACE)
    drawn = [space.draw(study.ask()) for _ in range(60)]
    rates = [settings["learning_rate"] for settings in drawn]
    assert all(1e-3 <= rate <= 0.1 for rate in rates)
    assert -2.4 < sum(map(math.log10, rates)) / len(rates) < -1.6, "evenly in the logarithm: the middle is 0.01"
    assert {type(settings["gradient_accumulation_steps"]) for settings in drawn} == {int}
    assert {settings["gradient_accumulation_steps"] for settings in drawn} == {1, 2, 3, 4}
    for name, choices in SPACE.items():
        if isinstance(choices, list):
            assert all(any(value == settings[name] for settings in drawn) for value in choices), name
    assert all(type(settings["mixup"]) is float for settings in drawn)


def test_what_the_study_keeps_is_what_was_drawn(study):
    space = SearchSpace.of(SPACE)
    trial = study.ask()
    drawn = space.draw(trial)
    assert space.draw(trial) == drawn, "asked again within the trial"
    assert space.settings(trial.params) == drawn


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mixupp": [0, 1]}, ["mixupp", "mixup"]),
        ({"max_grad_normm": [0]}, ["max_grad_normm", "max_grad_norm"]),
        ({"method": ["supervised", "kd"]}, ["method", "what is compared"]),
        ({"backbone": [18]}, ["backbone", "18"]),
        ({"backbone_args": ['{"width": 2}']}, ["backbone_args", "no value"]),
        ({"backbone_args": {"low": 0, "high": 1}}, ["backbone_args", "choices"]),
        ({"seed": [0, 1]}, ["seed"]),
        ({"trials": [1, 2]}, ["trials"]),
        ({"output_dir": ["a"]}, ["output_dir"]),
        ({"eval_steps": [0.1]}, ["eval_steps"]),
        ({"mixup": []}, ["mixup", "choices"]),
        ({"mixup": [0, 0.0]}, ["mixup", "differ"]),
        ({"mixup": 0.3}, ["mixup", "neither"]),
        ({"mixup": ["much"]}, ["mixup", "much"]),
        ({"mixup": [None]}, ["mixup"]),
        ({"nesterov": [1]}, ["nesterov", "1"]),
        ({"auto_augment": [3]}, ["auto_augment"]),
        ({"crop_scale": [0.5]}, ["crop_scale", "0.5"]),
        ({"gradient_accumulation_steps": [1.5]}, ["1.5"]),
        ({"learning_rate": {"low": 0.1, "high": 0.1}}, ["learning_rate", "empty"]),
        ({"learning_rate": {"low": 0.2, "high": 0.1}}, ["empty"]),
        ({"learning_rate": {"low": 0, "high": 0.1, "log": True}}, ["log", "above 0"]),
        ({"learning_rate": {"low": 0.1}}, ["low and high"]),
        ({"learning_rate": {"low": 0.1, "high": 1, "lgo": True}}, ["lgo"]),
        ({"learning_rate": {"low": 0.1, "high": 1, "log": "yes"}}, ["log"]),
        ({"learning_rate": {"low": float("nan"), "high": 1}}, ["empty"]),
        ({"auto_augment": {"low": 0, "high": 1}}, ["auto_augment", "choices"]),
        ({"nesterov": {"low": 0, "high": 1}}, ["nesterov", "choices"]),
        ({"learning_rate": [0.1], "base_learning_rate": [0.1]}, ["one thing"]),
    ],
)
def test_space_refuses(options, words):
    with pytest.raises(InputError) as refusal:
        SearchSpace.of(options, "here")
    line = refusal.value.on_command_line
    assert line.startswith("here: ") and "\n" not in line and all(word in line for word in words), line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n", "must hold"),
        ("", "must hold"),
        ("a: [", "not YAML"),
        (None, "space.yaml: no search space of this name, neither as a file"),
    ],
)
def test_file_that_is_no_space(tmp_path, text, words):
    if text is not None:
        (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        SearchSpace.read(str(tmp_path / "space.yaml"))


def test_every_option_that_may_be_searched_exists():
    assert {
        "learning_rate",
        "mixup",
        "num_train_epochs",
        "feature_weight",
        "adam_beta2",
        "flip",
    } <= searchable().keys()
    assert not {"teacher", "seed", "use_cpu", "logging_steps", "save_steps", "bf16"} & searchable().keys()


def test_tuned_arguments_leave_the_given_ones_alone_and_are_checked(given):
    args = given(mixup=0.1, label_smoothing=0.2)
    tuned = tuned_arguments(args, {"mixup": 0.3, "num_train_epochs": 7.0})
    assert (tuned.mixup, tuned.num_train_epochs, args.mixup, args.num_train_epochs) == (0.3, 7.0, 0.1, 100.0)
    same = {name: value for name, value in args.to_dict().items() if name not in ("mixup", "num_train_epochs")}
    assert same.items() <= tuned.to_dict().items()
    with pytest.raises(InputError, match="mixup"):
        tuned_arguments(args, {"mixup": -1.0})


def test_batch_that_was_not_given_still_fits_itself(given):
    args = given()

    def batch(args, settings):
        return resolve(tuned_arguments(args, settings), images=48).args.per_device_train_batch_size

    assert batch(args, {"mixup": 0.3}) == 24
    assert batch(args, {"per_device_train_batch_size": 8}) == 8
    assert batch(given(per_device_train_batch_size=8), {"mixup": 0.3}) == 8


def test_drawn_base_rate_wins_over_a_given_rate(given):
    tuned = tuned_arguments(given(learning_rate=0.5), {"base_learning_rate": 0.1})
    found = resolve(tuned, images=1000).args
    assert found.learning_rate == pytest.approx(0.1 * 64 / 256)
