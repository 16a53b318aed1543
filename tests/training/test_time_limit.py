"""A run with a time limit is a run of as many epochs as fit, ends in time when it slows down, and says what it did."""

import json
import shutil
import time
from types import SimpleNamespace

import pytest
from datasets import load_dataset
from safetensors.torch import load_file

from hf_vipriors import run
from hf_vipriors.cli.student import main as student
from hf_vipriors.cli.teacher import main as teacher
from hf_vipriors.training import StudentArguments, StudentTrainer, time_limit, trainer
from hf_vipriors.training.recipe_of_run import recipe_text
from hf_vipriors.training.run_files import read_run
from hf_vipriors.training.time_limit import TimedTrainer


@pytest.fixture
def steady(monkeypatch):
    """Trials really run, and then count as half a second a step and nothing an image; no time passes otherwise.

    20 s less twice 1.5 s are 34 steps.
    """
    tried = []
    steps = TimedTrainer._seconds_per_step

    def timed(trainer, budget):
        tried.append(steps(trainer, budget))
        return 0.5

    for module in (time_limit, run, trainer):
        clock = SimpleNamespace(monotonic=lambda: 0.0, perf_counter=time.perf_counter)
        monkeypatch.setattr(module, "time", clock)
    for name in ("TRIED", "LEAST_SECONDS"):  # the least number of steps
        monkeypatch.setattr(time_limit, name, 0.0)
    monkeypatch.setattr(TimedTrainer, "_seconds_per_step", timed)
    monkeypatch.setattr(TimedTrainer, "_seconds_per_image", lambda trainer: 0.0)
    return tried


def weights(folder):
    return {name: value.tolist() for name, value in load_file(folder / "model.safetensors").items()}


@pytest.mark.parametrize("method", ["moco", "fixmatch", "overhaul"])
def test_it_is_the_run_of_the_epochs_that_fit(
    method, steady, teacher_options, student_options, teacher_folder, tmp_path, capsys
):
    more = {
        "moco": ["--method", "moco"],
        "fixmatch": ["--method", "fixmatch", "--unlabelled_ratio", "1"],
        "overhaul": ["--method", "overhaul", "--teacher", str(teacher_folder), "--lr_milestones", "20", "30"],
    }[method]
    command, options = (teacher, teacher_options) if method == "moco" else (student, student_options)
    options = [*options, *more, "--save_strategy", "no"]
    command([*options, "--num_train_epochs", "40", "--time_limit", "20s", "--output_dir", str(tmp_path / "limited")])
    assert len(steady) == 1
    found = read_run(tmp_path / "limited")
    # 46 images in batches of 8 without the last one, or 36 in batches of 6.
    epochs = found.resolved["num_train_epochs"]
    assert epochs == {"moco": 6, "fixmatch": 5, "overhaul": 5}[method]
    assert (
        f"time limit 20s: {epochs:g} epochs in place of 40 (0.0 s until now, 0.5 s a step" in capsys.readouterr().err
    )
    recipe = recipe_text(found, {})
    assert f"num_train_epochs: {epochs}" in recipe and "time_limit" not in recipe
    share = epochs / 40
    if method == "overhaul":
        assert found.resolved["lr_milestones"] == [20 * share, 30 * share]
        more += ["--distil_from_epoch", str(5 * share)]
        options += ["--lr_milestones", str(20 * share), str(30 * share), "--distil_from_epoch", str(5 * share)]
    command([*options, "--num_train_epochs", str(epochs), "--output_dir", str(tmp_path / "given")])
    assert weights(tmp_path / "limited") == weights(tmp_path / "given")


def test_a_run_that_fits_is_not_changed(steady, student_options, tmp_path, capsys):
    student([*student_options, "--method", "supervised", "--time_limit", "20s", "--output_dir", str(tmp_path)])
    assert "num_train_epochs" not in read_run(tmp_path).resolved and "all 12 steps fit" in capsys.readouterr().err


def test_it_goes_on_with_the_length_that_was_settled(steady, student_options, teacher_folder, tmp_path, capsys):
    options = [*student_options, "--method", "overhaul", "--teacher", str(teacher_folder), "--time_limit", "20s"]
    options += ["--num_train_epochs", "40", "--save_strategy", "epoch", "--save_total_limit", "9"]
    student([*options, "--output_dir", str(tmp_path / "whole")])
    (tmp_path / "killed").mkdir()
    for name in ("run.json", "checkpoint-18"):
        copy = shutil.copytree if name.startswith("checkpoint") else shutil.copyfile
        copy(tmp_path / "whole" / name, tmp_path / "killed" / name)
    tried = len(steady)
    student([*options, "--output_dir", str(tmp_path / "killed"), "--resume_from_checkpoint", "true"])
    assert len(steady) == tried  # nothing is settled again
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    without = [option for option in options if option not in ("--time_limit", "20s")]
    with pytest.raises(SystemExit) as stopped:
        again = [
            "--output_dir",
            str(tmp_path / "killed"),
            "--resume_from_checkpoint",
            str(tmp_path / "killed" / "checkpoint-18"),
        ]
        student([*without, *again])
    assert stopped.value.code == 2 and "is of a run with --time_limit 20s" in capsys.readouterr().err


def test_a_time_in_which_nothing_fits_is_refused(student_options, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        student(
            [*student_options, "--method", "supervised", "--time_limit", "0.01s", "--output_dir", str(tmp_path / "o")]
        )
    assert stopped.value.code == 2
    assert "--time_limit 0.01s is too short for a training" in capsys.readouterr().err
    assert not (tmp_path / "o").exists() or not any((tmp_path / "o").iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--time_limit", "30"], "write it as 30m, 1h30m or 90s"),
        (["--time_limit", "5 minutes"], "write it as 30m, 1h30m or 90s"),
        (["--time_limit", "0s"], "write it as 30m, 1h30m or 90s"),
        (["--time_limit", "1h", "--trials", "2", "--search_space", "supervised"], "--time_limit is of one training"),
    ],
)
def test_what_cannot_be_kept_is_refused(options, words, student_options, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        student([*student_options, "--method", "supervised", *options, "--output_dir", str(tmp_path / "out")])
    assert stopped.value.code == 2 and words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("seconds", "steps", "kind"), [(120.0, 60, "slower_than_planned"), (20.0, 20, "time_limit_reached")]
)
def test_a_run_that_slows_down_ends_in_time(seconds, steps, kind, student_options, tmp_path, monkeypatch):
    """Planned for a second a step, it takes two: its learning rate still falls to zero at its end."""
    trained = []

    def settle(trainer, began, checkpoint=None):
        clock = SimpleNamespace(monotonic=lambda: 2.0 * trainer.state.global_step)
        monkeypatch.setattr(time_limit, "time", clock)
        trainer.deadline = seconds
        trained.append(trainer)

    monkeypatch.setattr(TimedTrainer, "settle_length", settle)
    student(
        [
            *[*student_options, "--method", "supervised", "--num_train_epochs", "20", "--logging_steps", "20"],
            *["--time_limit", "2m", "--eval_strategy", "no", "--output_dir", str(tmp_path), "--warmup_steps", "0"],
        ]
    )
    assert trained[0].state.global_step == steps
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert [each["kind"] for each in found["warnings"] if "time" in each["text"]] == [kind]
    assert "--time_limit 2m" in (tmp_path / "README.md").read_text()
    if kind == "slower_than_planned":
        rates = [entry["learning_rate"] for entry in trained[0].state.log_history if "learning_rate" in entry]
        assert rates[-1] < 0.01 * rates[0]


def test_the_epochs_that_fit_are_whole(steady, student_options, tmp_path):
    """3,000 times 5 / 3,000 is not 5 for a computer, and one step more would be another run."""
    options = [*student_options, "--method", "supervised", "--num_train_epochs", "2990", "--time_limit", "20s"]
    student([*options, "--output_dir", str(tmp_path), "--save_strategy", "no"])
    assert read_run(tmp_path).resolved["num_train_epochs"] == 5.0
    assert json.loads((tmp_path / "trainer_state.json").read_text())["global_step"] == 30


def test_each_training_of_a_trainer_has_a_time_of_its_own(steady, photos, tmp_path):
    images = load_dataset("imagefolder", data_dir=str(photos))
    args = StudentArguments(
        str(tmp_path), method="supervised", backbone="test_resnet", image_size=32, num_train_epochs=40, use_cpu=True,
        per_device_train_batch_size=6, time_limit="20s", disable_tqdm=True, report_to="none", save_strategy="no",
    )  # fmt: skip
    student = StudentTrainer(args=args, train_dataset=images["train"], eval_dataset=images["validation"])
    for _ in range(2):
        student.train()
        assert student.state.global_step == 30
    assert len(steady) == 2 and "time_limit" not in str(student.guards.found())
