"""``hf-vipriors``: help at once, one line for a mistake, and each job by its name."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_vipriors.advice import advise
from hf_vipriors.cli import main as cli
from hf_vipriors.scoring import evaluate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def called(monkeypatch):
    """What the jobs would have been called with."""
    calls = []
    for name, job in cli.JOBS.items():
        module = importlib.import_module(f"hf_vipriors.{job.module}")
        monkeypatch.setattr(module, "main", lambda argv, name=name: calls.append((name, list(argv))))
    return calls


@pytest.mark.parametrize("name", cli.JOBS)
def test_a_job_gets_its_options(called, name):
    cli.main([name, "--seed", "3"])
    assert called == [(name, ["--seed", "3"])]


def test_advise_has_an_older_name(called):
    cli.main(["evaluate", "--data_dir", "photos", "--advise"])
    assert called == [("advise", ["--data_dir", "photos"])]
    assert advise.main is not evaluate.main


def test_help_names_every_job_in_order(capsys):
    for argv in ([], ["-h"], ["--help"]):
        cli.main(argv)
        shown = capsys.readouterr().out
        places = [shown.index(f"  {name} ") for name in cli.JOBS]
        assert places == sorted(places) and all(f"hf-vipriors {name}" in shown for name in cli.JOBS)


def test_help_does_not_wait_for_torch():
    code = "import sys; sys.argv[0] = 'hf-vipriors'; from hf_vipriors.cli.main import main; main(['--help']); "
    code += "assert not {'torch', 'transformers', 'numpy'} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "hf-vipriors teacher" in done.stdout, done.stderr


def test_an_unknown_job_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["studnt"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: unknown command 'studnt': did you mean 'student'?\n"


def test_an_interruption_while_libraries_load_is_one_line(capsys, monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.importlib, "import_module", interrupted)
    with pytest.raises(SystemExit) as stop:
        cli.main(["student"])
    assert stop.value.code == 130 and capsys.readouterr().err == "interrupted before it began\n"


def test_scripts_do_not_see_their_own_folder(called, monkeypatch):
    """Else scripts/evaluate.py would be the library of that name."""
    scripts = str(ROOT / "scripts")
    monkeypatch.setattr(sys, "path", [scripts, *sys.path])
    monkeypatch.setattr(sys, "argv", [f"{scripts}/train_student.py", "--seed", "3"])
    cli.run_script("student")
    assert scripts not in sys.path and called == [("student", ["--seed", "3"])]


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.stem)
def test_a_script_is_a_shim(path):
    lines = path.read_text(encoding="utf-8").split('"""')[2].split("\n")
    code = [line for line in lines if line]
    assert code[0] == "from hf_vipriors.cli.main import run_script" and len(code) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "shown"),
    [
        (["-m", "hf_vipriors", "student"], "python -m hf_vipriors student --method supervised"),
        (
            ["-m", "accelerate.commands.launch", "-m", "hf_vipriors", "student"],
            "accelerate launch -m hf_vipriors student --method supervised",
        ),
        (["scripts/train_student.py"], "accelerate launch scripts/train_student.py --method supervised"),
    ],
)
def test_help_of_a_job_shows_the_command_that_was_used(program, shown):
    command = [sys.executable, *program, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ)
    assert done.returncode == 0 and shown in done.stdout, done.stderr


def test_a_name_of_a_recipe_on_the_command_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["student", "--config", "image_folder_studnt"])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert stop.value.code == 2 and "'image_folder_student'" in line and not list(tmp_path.iterdir())
