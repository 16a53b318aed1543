"""A run that was killed with SIGKILL at any moment and resumed ends, bit by bit, as the run that was never killed."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers.trainer_pt_utils import safe_globals

from hf_vipriors.cli import teacher as train_teacher
from hf_vipriors.training.callbacks import StepHooks
from hf_vipriors.training.run_folder import LOCK_FILE

WORKER = Path(__file__).with_name("resume_worker.py")
SPEEDS = {"images_per_second", "seconds"}  # and what ends in _runtime or _per_second


def figures(found):
    """Without times and speeds."""
    if isinstance(found, list):
        return [figures(one) for one in found]
    if not isinstance(found, dict):
        return found
    speeds = {name for name in found if name.endswith(("_runtime", "_per_second"))} | SPEEDS
    return {name: figures(value) for name, value in found.items() if name not in speeds}


def assert_equal(found, expected, where):
    assert type(found) is type(expected), where
    if isinstance(found, torch.Tensor):
        assert found.dtype == expected.dtype and torch.equal(found, expected), where
    elif isinstance(found, np.ndarray):
        assert np.array_equal(found, expected), where
    elif isinstance(found, dict):
        assert found.keys() == expected.keys(), where
        for name, value in found.items():
            assert_equal(value, expected[name], f"{where}: {name}")
    elif isinstance(found, list | tuple):
        assert len(found) == len(expected), where
        for number, value in enumerate(found):
            assert_equal(value, expected[number], f"{where}: {number}")
    else:
        assert found == expected, where


def assert_same_run(folder, whole):
    """Weights, queues, averages, optimizer, schedule, random numbers, sums for the next log; logs and metrics."""
    names = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    compared = set()
    for name in names:
        ours, theirs = folder / name, whole / name
        if name.suffix == ".safetensors":
            assert_equal(load_file(ours), load_file(theirs), str(name))
        elif name.suffix in (".pt", ".pth"):
            with safe_globals():  # for numpy's random state
                states = [torch.load(file, weights_only=True) for file in (ours, theirs)]
            assert_equal(*states, str(name))
        elif name.name in ("trainer_state.json", "metrics.json"):
            history = [json.loads(file.read_text()) for file in (ours, theirs)]
            if name.name == "trainer_state.json":
                history = [each["log_history"] for each in history]
            assert_equal(*map(figures, history), str(name))
        else:
            continue
        compared.add(name.name)
    assert {"model.safetensors", "method.safetensors", "optimizer.pt", "scheduler.pt"} <= compared
    assert {"trainer_state.json", "metrics.json"} <= compared
    assert any(name.startswith("rng_state") for name in compared)
    assert any(name.startswith("log_window") for name in compared)


def assert_exact(folder, photos, kills, *cases):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, WORKER, folder, photos, str(kills), *cases]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    for case in cases:
        for told in json.loads((folder / case / "story.json").read_text()):
            log = folder / case / f"{told['run']}.log"
            assert told["resumed"] == 0, (case, told, log.read_text()[-2000:])
            if told["run"] == "stopped":  # both processes, together, at a step of no save
                assert told["killed"] == [143, 143] and told["checkpoints"][0] % 3, told
            elif told["run"] != "clock":  # which may come when the run has ended
                assert told["killed"] == -9, (case, told)
            try:
                assert_same_run(folder / case / told["run"], folder / case / "whole")
            except AssertionError as error:
                raise AssertionError(f"{case}, killed at {told['at']}: {error}") from None


def test_killed_while_saving_and_by_the_clock(photos, tmp_path):
    assert_exact(tmp_path, photos, 1, "supervised")


def test_two_processes(photos, tmp_path):
    assert_exact(tmp_path, photos, 1, "two")


@pytest.mark.slow
def test_every_method_killed_anywhere(photos, tmp_path):
    """Also streamed with two workers, evaluated by epochs, and with accumulation: 28 kills."""
    cases = ("moco", "simclr", "streamed", "seed", "dogo", "supervised", "epochs", "overhaul", "kd", "fixmatch")
    assert_exact(tmp_path, photos, 2, *cases, "adamatch", "softmatch", "sskd", "crd")


def test_signal_ends_a_command_with_the_line_that_goes_on(teacher_options, tmp_path, capsys, monkeypatch):
    begin = StepHooks.on_step_begin

    def interrupted(self, args, state, control, **options):
        begin(self, args, state, control, **options)
        if state.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(StepHooks, "on_step_begin", interrupted)
    monkeypatch.setattr(sys, "orig_argv", ["python", "scripts/train_teacher.py", "--output_dir", "my run"])
    with pytest.raises(SystemExit) as stop:
        train_teacher.main([*teacher_options, "--output_dir", str(tmp_path / "run"), "--save_steps", "3"])
    assert stop.value.code == 143
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("stopped by")]
    assert f"SIGTERM at step 5: saved in {tmp_path / 'run' / 'checkpoint-5'}; go on with: " in line
    assert line.endswith("scripts/train_teacher.py --output_dir 'my run' --resume_from_checkpoint true")
    assert not (tmp_path / "run" / LOCK_FILE).exists(), "the folder is free again"
    monkeypatch.setattr(StepHooks, "on_step_begin", begin)
    more = ["--resume_from_checkpoint", "true", "--save_steps", "3"]
    train_teacher.main([*teacher_options, "--output_dir", str(tmp_path / "run"), *more])
    assert (tmp_path / "run" / "metrics.json").is_file()


@pytest.mark.parametrize("step", [1, 4], ids=["before a checkpoint", "after one"])
def test_two_interrupts_name_an_option_that_is_taken(teacher_options, tmp_path, capsys, monkeypatch, step):
    begin = StepHooks.on_step_begin

    def twice(self, args, state, control, **options):
        begin(self, args, state, control, **options)
        if state.global_step == step:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    options = [*teacher_options, "--output_dir", str(tmp_path / "run"), "--save_steps", "3"]
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(StepHooks, "on_step_begin", twice)
        train_teacher.main(options)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("interrupted")]
    assert stop.value.code == 130
    words = ["--overwrite_output_dir"] if step == 1 else ["--resume_from_checkpoint", "true"]
    assert line.endswith(" ".join(words))
    train_teacher.main([*options, *words])
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_second_run_is_refused_before_it_writes(teacher_options, teacher_folder, contents, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(teacher_folder, run)
    descriptor = os.open(run / LOCK_FILE, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # of another open file, which is as good as of another process
    before = contents(run)
    for wish in (["--overwrite_output_dir"], ["--resume_from_checkpoint", "true"]):
        with pytest.raises(SystemExit) as stop:
            train_teacher.main([*teacher_options, "--output_dir", str(run), *wish])
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert stop.value.code == 2 and "another run" in line and "is writing there" in line
        assert contents(run) == before
    os.close(descriptor)
    train_teacher.main([*teacher_options, "--output_dir", str(run), "--overwrite_output_dir"])
    assert not (run / LOCK_FILE).exists()
