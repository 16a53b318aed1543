"""Trials before the run that counts: chosen on validation, written down, used again, gone on with."""

import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from hf_vipriors.cli.student import main
from hf_vipriors.errors import InputError
from hf_vipriors.search import searching as search
from hf_vipriors.search.checks import check_effect
from hf_vipriors.search.space import SearchSpace, tuned_arguments
from hf_vipriors.training import StudentArguments

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes" / "search"


def read(folder, name):
    return json.loads((folder / name).read_text())


@pytest.mark.parametrize("method", ["supervised", "overhaul", "sskd"])
def test_run_that_counts_is_the_best_trial_again(
    options, space, measured, method, teacher_folder, classifier_folder, tmp_path
):
    folder, teacher = tmp_path / "tuned", tmp_path / "teacher"
    shutil.copytree(classifier_folder if method == "sskd" else teacher_folder, teacher)
    more = ["--method", method, "--trials", "2", "--ema_decay", "0.9"]
    wish = {"crop_scale": [[0.3, 1.0], [0.9, 1.0]]}
    rate = {"low": 0.01, "high": 0.2, "log": True}
    wish |= {"similarity_weight": [1, 10]} if method == "sskd" else {"mixup": [0.3, 0.8], "learning_rate": rate}
    more += [] if method == "supervised" else ["--teacher", str(teacher)]
    more += (
        ["--distil_from_epoch", "0"] if method == "overhaul" else ["--head_epochs", "1"] if method == "sskd" else []
    )
    main([*options, *more, *space(wish), "--output_dir", str(folder)])

    found, metrics, log = (read(folder, f"{name}.json") for name in ("search", "metrics", "trainer_state"))
    assert [t["validation_top1"] for t in found["all_trials"]] == [top1 for _, top1 in measured]
    best = max(found["all_trials"], key=lambda trial: trial["validation_top1"])
    assert found["settings"] == best["settings"] and found["best_trial"] == best["number"] and found["trials"] == 2
    assert found["settings"].keys() == found["space"].keys()
    assert metrics["search"]["validation_top1"] == found["validation_top1"]
    assert metrics["search"] == {name: found[name] for name in ("trials", "validation_top1", "settings", "seconds")}
    last = [entry for entry in log["log_history"] if "eval_top1" in entry][-1]
    assert (last["eval_loss"], last["eval_top1"]) == measured[best["number"]], "to the last bit"
    assert metrics["test"]["count"] == 12
    assert not list(folder.glob("run-*")) and not list(folder.glob("checkpoint-*"))


def test_trials_that_see_other_crops_each_fit_their_own_head(options, space, classifier_folder, tmp_path):
    folder, teacher = tmp_path / "tuned", tmp_path / "teacher"
    shutil.copytree(classifier_folder, teacher)
    more = ["--method", "sskd", "--teacher", str(teacher), "--head_epochs", "1", "--trials", "2"]
    wish = {"crop_scale": [[0.3, 1.0], [0.5, 1.0], [0.9, 1.0]]}  # the first trial has the default, [0.5, 1.0]
    main([*options, *more, *space(wish), "--output_dir", str(folder)])
    first, second = (trial["settings"]["crop_scale"] for trial in read(folder, "search.json")["all_trials"])
    assert first == [0.5, 1.0] != second
    assert len(list(teacher.glob("sskd_head-*.safetensors"))) == 2


def test_run_json_holds_the_settings_as_given_and_the_card_those_used(options, space, tmp_path):
    folder = tmp_path / "tuned"
    main([*options, "--trials", "1", *space({"mixup": [0.8], "weight_decay": [0.07]}), "--output_dir", str(folder)])
    given = read(folder, "run.json")["arguments"]
    assert (given["mixup"], given["weight_decay"], given["trials"]) == (0.0, 5e-4, 1)
    assert (given["eval_strategy"], given["output_dir"]) == ("steps", str(folder))
    card = (folder / "README.md").read_text()
    assert "0.07" in card and "| settings chosen on validation, of trials | 1 |" in card


def test_settings_of_another_run(options, space, tmp_path, capsys):
    tuned, other = tmp_path / "tuned", tmp_path / "other"
    main([*options, "--trials", "1", *space(), "--output_dir", str(tuned)])
    more = ["--settings_of", str(tuned), "--output_dir", str(other)]
    main([*options, "--seed", "1", "--logging_steps", "1", "--warmup_steps", "0", *more])
    found = read(tuned, "search.json")
    assert read(other, "metrics.json")["search"] == read(tuned, "metrics.json")["search"]
    rates = [
        log["learning_rate"] for log in read(other, "trainer_state.json")["log_history"] if "learning_rate" in log
    ]
    assert rates[0] == pytest.approx(found["settings"]["learning_rate"])
    given = read(other, "run.json")["arguments"]
    assert (given["learning_rate"], given["settings_of"]) == (None, str(tuned))
    assert not (other / "search").exists() and not (other / "search.json").exists()

    with pytest.raises(SystemExit):
        main([*options, *more[:2], "--learning_rate", "0.1", "--output_dir", str(tmp_path / "third")])
    assert "--learning_rate is given" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*options, "--settings_of", str(tuned), "--overwrite_output_dir", "--output_dir", str(tuned)])
    assert read(tuned, "search.json") == found, "what was found is not lost by using it"


def kill_after(monkeypatch, trials):
    """Ctrl-C when so many trials are finished."""
    line = search.trial_line

    def killed(done, budget):
        if len(done) == trials:
            raise KeyboardInterrupt
        return line(done, budget)

    monkeypatch.setattr(search, "trial_line", killed)


@pytest.mark.parametrize("flag", [["--resume_from_checkpoint", "true"], ["--overwrite_output_dir"]])
def test_killed_search_goes_on(options, space, measured, flag, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "tuned"
    command = [*options, "--trials", "3", *space(), "--output_dir", str(folder)]
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        kill_after(patch, 2)
        main(command)
    with pytest.raises(SystemExit):
        main(command)
    assert "--resume_from_checkpoint true" in capsys.readouterr().err
    settings = read(folder, "search/settings.json")  # of a version that had two options less
    del settings["data"]["validation_seed"], settings["arguments"]["random_shift"]
    (folder / "search" / "settings.json").write_text(json.dumps(settings))
    main([*command, *flag])
    assert len(measured) == 3, "no trial is run twice"
    assert read(folder, "search.json")["trials"] == 3 and read(folder, "metrics.json")["search"]["trials"] == 3


def test_trials_of_other_settings_are_not_mixed_in(options, space, measured, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "tuned"
    command = [*options, "--trials", "2", *space(), "--output_dir", str(folder)]
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        kill_after(patch, 1)
        main(command)
    other = [*command, "--weight_decay", "0.1"]
    with pytest.raises(SystemExit):
        main([*other, "--resume_from_checkpoint", "true"])
    assert "other settings" in capsys.readouterr().err
    main([*other, "--overwrite_output_dir"])
    assert len(measured) == 3, "the trial of before is not counted"


def test_run_that_was_killed_after_its_search_resumes_with_what_was_found(options, space, measured, tmp_path, capsys):
    folder = tmp_path / "tuned"
    options = [*options, "--save_strategy", "steps", "--save_steps", "3", "--save_total_limit", "9"]
    command = [*options, "--trials", "1", *space({"learning_rate": [0.07]}), "--output_dir", str(folder)]
    main(command)
    before = (folder / "model.safetensors").read_bytes()
    for name in ("model.safetensors", "metrics.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "checkpoint-6")
    main([*command, "--resume_from_checkpoint", "true"])
    assert len(measured) == 1 and read(folder, "metrics.json")["search"]["settings"] == {"learning_rate": 0.07}
    assert (folder / "model.safetensors").read_bytes() == before
    with pytest.raises(SystemExit):
        main([*command, "--trials", "2", "--resume_from_checkpoint", "true"])
    assert "--trials 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options_of_space", "change", "words"),
    [
        (None, ["--learning_rate", "0.1"], ["--learning_rate is given", "space.yaml"]),
        (None, ["--base-learning-rate=0.1"], ["--base_learning_rate is given"]),
        ({"nesterov": [True, False]}, ["--no_nesterov"], ["--nesterov is given"]),
        (None, ["--trials", "0"], ["search_space does nothing"]),
        (None, ["--trials", "-1"], ["trials"]),
        (None, ["--settings_of", "somewhere"], ["--settings_of", "give one"]),
        (None, ["--search_space", "missing.yaml"], ["missing.yaml"]),
        (None, ["--load_best_model_at_end", "--save_strategy", "steps"], ["load_best_model_at_end"]),
        ({"mixup": [0.1, -0.3]}, [], ["mixup", "-0.3", "space.yaml"]),
        ({"optim": ["sgd", "sdg"]}, [], ["optim", "sdg"]),
        ({"lr_scheduler_type": ["cosine", "linaer"]}, [], ["lr_scheduler_type", "linaer"]),
        ({"crop_scale": [[0.5, 1.5]]}, [], ["crop_scale"]),
        ({"per_device_train_batch_size": [6, 64]}, [], ["batch of 64"]),
        ({"feature_weight": [1e-3, 1e-4]}, [], ["feature_weight", "no effect", "supervised"]),
        ({"kd_weight": [0.5]}, [], ["kd_weight"]),
        ({"num_train_epochs": [1, 2]}, ["--max_steps", "3"], ["num_train_epochs", "max_steps"]),
        ({"lr_scheduler_type": ["cosine", "linear"]}, ["--lr_milestones", "1"], ["lr_milestones"]),
        ({"sgd_momentum": [0.8, 0.9]}, ["--optim", "adamw_torch"], ["sgd_momentum", "without --optim sgd"]),
        ({"adam_beta2": [0.9, 0.99]}, [], ["adam_beta2", "sgd"]),
    ],
)
def test_what_cannot_be_searched_is_refused(common, space, refused, options_of_space, change, words):
    line = refused([*common, "--method", "supervised", "--trials", "2", *space(options_of_space), *change])
    assert all(word in line for word in words), line


def test_a_recipe_may_set_what_the_space_draws(options, space, tmp_path):
    (tmp_path / "recipe.yaml").write_text("learning_rate: 0.05\n")
    folder = tmp_path / "tuned"
    more = ["--config", str(tmp_path / "recipe.yaml"), "--trials", "1", *space({"learning_rate": [0.07]})]
    main([*more, *options, "--output_dir", str(folder)])
    assert read(folder, "metrics.json")["search"]["settings"] == {"learning_rate": 0.07}


def test_without_a_test_split_nothing_may_be_chosen(options, space, photos, tmp_path, capsys):
    shutil.copytree(photos / "train", tmp_path / "photos")
    with pytest.raises(SystemExit):
        main([*options, "--data_dir", str(tmp_path / "photos"), "--trials", "1", *space(), "--output_dir", "never"])
    assert "validation is the test" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", "{}", '{"trials": 1', '{"trials": 1, "settings": {"seed": 3}}'])
def test_settings_that_no_search_wrote(options, text, tmp_path, capsys):
    (tmp_path / "search.json").write_text(text)
    with pytest.raises(SystemExit) as stop:
        main([*options, "--settings_of", str(tmp_path), "--output_dir", str(tmp_path / "never")])
    assert stop.value.code == 2 and not (tmp_path / "never").exists()
    assert "search.json" in capsys.readouterr().err


def test_a_replaced_run_takes_its_search_along(options, space, tmp_path):
    folder = tmp_path / "tuned"
    main([*options, "--trials", "1", *space(), "--output_dir", str(folder)])
    main([*options, "--overwrite_output_dir", "--output_dir", str(folder)])
    assert not (folder / "search.json").exists() and "search" not in read(folder, "metrics.json")


def test_the_option_names_every_space_that_ships():
    (text,) = [f.metadata["help"] for f in fields(StudentArguments) if f.name == "search_space"]
    assert all(path.stem in text for path in RECIPES.glob("*.yaml")), text


@pytest.mark.parametrize("name", ["supervised", "overhaul", "fixmatch"])
def test_recipes_hold_what_their_method_reads_and_no_arm_has_less_than_the_baseline(name, tmp_path):
    found, baseline = (SearchSpace.read(str(RECIPES / f"{stem}.yaml")) for stem in (name, "supervised"))
    args = StudentArguments(method=name, teacher="t", use_cpu=True, output_dir=str(tmp_path), report_to="none")
    for end in (0, -1):
        drawn = {dimension.name: dimension.extremes()[end] for dimension in found.dimensions}
        check_effect(found.names, tuned_arguments(args, drawn), name)
    left_out = {"label_smoothing"} if name == "fixmatch" else set()  # it keeps predictions below the threshold
    assert set(baseline.names) - set(found.names) == left_out


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"kd_weight": 0.0, "kd_temperature": 2.0}, None),
        ({"kd_weight": 0.5, "kd_temperature": 2.0}, None),
        ({"kd_temperature": 2.0}, "kd_temperature"),
        ({"unlabelled_ratio": 0}, None),
        ({"similarity_weight": 1.0}, "similarity_weight"),
    ],
)
def test_a_weight_that_won_with_0_is_no_setting_without_effect(options, refused, tmp_path):
    args = StudentArguments(teacher="t", use_cpu=True, output_dir=str(tmp_path), report_to="none", **options)
    if refused is None:
        check_effect(list(options), args, "search")
    else:
        with pytest.raises(InputError, match=refused):
            check_effect(list(options), args, "search")
