"""A full disk, a killed data worker, memory that is full: one line, exit code 2, nothing half-written."""

import os
import subprocess
import sys
import time

import datasets
import psutil
import pytest
import torch
from datasets import config
from torch.utils.data import get_worker_info

from hf_vipriors.cli import student as train_student
from hf_vipriors.cli import teacher as train_teacher
from hf_vipriors.data import ImageStore, streamed_store
from hf_vipriors.training import MethodTrainer

KEPT = ("run.json", "trained_images.safetensors", "trainer_state.json", ".lock")  # what was asked for, and how it went


@pytest.fixture
def stopped(capsys):
    """Run a command that the machine stops; gives back its one line."""

    def run(main, options):
        with pytest.raises(SystemExit) as stop:
            main(options)
        assert stop.value.code == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        return line

    return run


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.name not in KEPT)


@pytest.mark.parametrize(
    ("main", "options"), [(train_student.main, ["--method", "supervised"]), (train_teacher.main, [])]
)
def test_a_disk_that_is_full_at_the_end(main, options, request, stopped, small_files, tmp_path):
    name = "student_options" if main is train_student.main else "teacher_options"
    out = tmp_path / "out"
    options = [*request.getfixturevalue(name), *options, "--save_strategy", "no", "--output_dir", str(out)]
    line = stopped(main, options)
    assert "too large" in line and "--output_dir" in line
    assert left(out) == [], "no half of a model"


def test_a_disk_that_is_full_at_a_checkpoint(student_options, stopped, small_files, tmp_path):
    out = tmp_path / "out"
    options = [*student_options, "--method", "supervised", "--disable_tqdm", "false", "--output_dir", str(out)]
    line = stopped(train_student.main, options)  # not on the line of the progress bar
    assert all(words in line for words in ("could not be written", "--output_dir", "there is no checkpoint before it"))
    assert left(out) == []


def test_a_data_worker_that_is_killed(teacher_options, stopped, monkeypatch, tmp_path):
    def kill_workers(self):
        begin(self)
        if self.state.global_step == 3:
            for child in psutil.Process().children():
                child.kill()

    begin = MethodTrainer._begin_step
    monkeypatch.setattr(MethodTrainer, "_begin_step", kill_workers)
    options = [*teacher_options, "--dataloader_num_workers", "1", "--dataloader_persistent_workers", "true"]
    line = stopped(train_teacher.main, [*options, "--num_train_epochs", "20", "--output_dir", str(tmp_path / "out")])
    assert "a data worker was killed" in line and "--resume_from_checkpoint true" in line


@pytest.fixture
def parquet(tmp_path):
    """A data set larger than 64 KiB."""
    images = datasets.Dataset.from_dict({"image": [os.urandom(40_000) for _ in range(3)], "label": [0, 1, 0]})
    images.to_parquet(tmp_path / "train.parquet")
    return str(tmp_path / "train.parquet")


def test_a_cache_of_data_sets_whose_disk_is_full(common, parquet, stopped, small_files, monkeypatch, tmp_path):
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    options = [*common[4:], "--dataset_name", parquet, "--method", "supervised"]
    line = stopped(train_student.main, [*options, "--output_dir", str(tmp_path / "out")])
    assert "too large" in line and "cache (HF_HOME)" in line
    assert "--output_dir" not in line and "columns" not in line and not (tmp_path / "out").exists()


TRAIN_AND_SCORE = """
import sys
from hf_vipriors.cli import student
from hf_vipriors.scoring import evaluate

student.main(sys.argv[2:] + ["--max_steps", "2", "--output_dir", sys.argv[1]])
evaluate.main(["--model", sys.argv[1], "--dataset_name", "imagefolder", "--data_dir", sys.argv[5]])
"""


@pytest.mark.slow
def test_without_a_home_to_write_in(student_options, tmp_path):
    home = {"HOME": "/dev/null/nobody", "PYTHONPATH": os.getcwd()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))} | home
    command = [
        sys.executable,
        "-c",
        TRAIN_AND_SCORE,
        str(tmp_path / "out"),
        *student_options,
        "--method",
        "supervised",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Scores on test" in done.stdout


@pytest.mark.parametrize("phase", ["training", "evaluation"])
def test_a_data_worker_that_lives_and_delivers_nothing(teacher_options, stopped, monkeypatch, tmp_path, phase):
    """As where its batch does not fit into shared memory: torch drops it, and waits without end."""
    take, steps = ImageStore.__getitems__, []

    def silent(self, indices):
        if get_worker_info() is not None:
            time.sleep(60)
        return take(self, indices)

    monkeypatch.setattr(ImageStore, "__getitems__", silent)
    monkeypatch.setattr(MethodTrainer, "_begin_step", lambda self: steps.append(self.state.global_step))
    monkeypatch.setattr(streamed_store, "WORKER_TIMEOUT", 1)
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    options = [*teacher_options, "--dataloader_num_workers", "1", "--output_dir", str(tmp_path / "out")]
    line = stopped(train_teacher.main, options if phase == "training" else [*options, "--eval_on_start", "true"])
    assert "a data worker delivered nothing" in line and "--dataloader_num_workers (0: none)" in line
    assert steps == [], "no batch came"
