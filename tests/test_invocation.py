"""Messages name the command that the person used: the installed one, the module, or a script of a checkout."""

import sys
from pathlib import Path

import pytest

from hf_vipriors.cli.main import JOBS
from hf_vipriors.invocation import SCRIPTS, TRAININGS, as_typed, command, entry_point, resume_command, this_command

ROOT = Path(__file__).parents[1]
DOCUMENTED = "accelerate launch scripts/train_student.py --config scripts/recipes/search/fixmatch.yaml"
RESUME = ["--resume_from_checkpoint", "true"]


@pytest.fixture
def started(monkeypatch):
    """``started(*words, launched=False)``: this process as if Python had been started with them."""
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    def start(*words, launched=False, processes=1):
        monkeypatch.setattr(sys, "orig_argv", ["python", *words])
        program = [str(ROOT / "hf_vipriors" / "__main__.py")] if words[0] == "-m" else [words[0]]
        monkeypatch.setattr(sys, "argv", [*program, *words[2 if words[0] == "-m" else 1 :]])
        if launched:
            monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
            monkeypatch.setenv("WORLD_SIZE", str(processes))

    return start


def test_every_job_has_a_script_or_a_command():
    assert JOBS.keys() == SCRIPTS.keys() and set(TRAININGS.values()) < JOBS.keys()
    scripts = {words.split()[1 if words.startswith("python") else 2] for words in SCRIPTS.values()}
    assert scripts - {"-m"} == {f"scripts/{path.name}" for path in (ROOT / "scripts").glob("*.py")}


@pytest.mark.parametrize(
    ("words", "launched", "way", "this", "student"),
    [
        (["/env/bin/hf-vipriors", "teacher"], False, "command", "hf-vipriors teacher", "hf-vipriors student"),
        (
            ["-m", "hf_vipriors", "push"],
            False,
            "module",
            "python -m hf_vipriors push",
            "python -m hf_vipriors student",
        ),
        (
            ["-m", "hf_vipriors", "teacher"],
            True,
            "module",
            "accelerate launch -m hf_vipriors teacher",
            "accelerate launch -m hf_vipriors student",
        ),
        (
            [str(ROOT / "scripts" / "evaluate.py"), "--model", "x"],
            False,
            "script",
            "python scripts/evaluate.py",
            "accelerate launch scripts/train_student.py",
        ),
        (["/somewhere/scripts/evaluate.py"], False, None, None, "hf-vipriors student"),
        (["-c"], False, None, None, "hf-vipriors student"),
    ],
)
def test_the_way_in_is_known_and_used(started, words, launched, way, this, student):
    started(*words, launched=launched)
    assert (entry_point(), this_command(), command("student")) == (way, this, student)
    shown = DOCUMENTED if way == "script" else f"{student} --config fixmatch"
    assert as_typed(DOCUMENTED) == shown


def test_the_module_is_known_while_python_looks_for_it(started, monkeypatch):
    started("-m", "hf_vipriors", "--help")
    monkeypatch.setattr(sys, "argv", ["-m", "--help"])
    assert entry_point() == "module"
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "pytest", "hf_vipriors"])
    assert entry_point() is None


def test_texts_that_name_no_script_of_ours_stay(started):
    started("/env/bin/hf-vipriors", "teacher")
    assert as_typed("python scripts/mine.py") == "python scripts/mine.py"
    assert as_typed("python scripts/evaluate.py --advise --data_dir x") == "hf-vipriors advise --data_dir x"


@pytest.mark.parametrize(
    ("words", "launched", "expected"),
    [
        (["/env/bin/hf-vipriors", "student", "--seed", "1"], {}, "hf-vipriors student --seed 1"),
        (["-m", "hf_vipriors", "student"], {}, "python -m hf_vipriors student"),
        (["-m", "hf_vipriors", "student"], {"processes": 1}, "accelerate launch -m hf_vipriors student"),
        (
            ["-u", "-m", "hf_vipriors", "student"],
            {"processes": 2},
            "accelerate launch --num_processes 2 -m hf_vipriors student",
        ),
        (["/env/bin/hf-vipriors", "student"], {"processes": 1}, "accelerate launch -m hf_vipriors student"),
        (["scripts/evaluate.py", "--a", "b c"], {"processes": 1}, "accelerate launch scripts/evaluate.py --a 'b c'"),
    ],
)  # fmt: skip
def test_a_run_goes_on_with_the_command_that_started_it(started, words, launched, expected):
    started("x", launched=bool(launched), **launched)
    assert resume_command(RESUME, ["python", *words]) == f"{expected} --resume_from_checkpoint true"
    again = [*words, "--resume-from-checkpoint=latest"]
    assert resume_command(RESUME, ["python", *again]) == f"{expected} --resume_from_checkpoint true"
