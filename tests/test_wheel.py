"""What `pip install` gives: the command, the recipes, a job that runs from an empty folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("uv") is None, reason="uv builds the wheel")]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The files of the wheel, as they lie in site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["uv", "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def run(installed, folder, *words):
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "hf_vipriors", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_it_holds_the_command_and_all_recipes(installed):
    (entry,) = installed.glob("*.dist-info/entry_points.txt")
    assert "hf-vipriors = hf_vipriors.cli.main:main" in entry.read_text()
    for source, target in (("recipes", "recipes"), ("accelerate", "accelerate_configs")):
        files = {path.relative_to(ROOT / "scripts" / source) for path in (ROOT / "scripts" / source).rglob("*.yaml")}
        shipped = installed / "hf_vipriors" / target
        assert files and {path.relative_to(shipped) for path in shipped.rglob("*.yaml")} == files


def test_a_job_with_a_shipped_recipe(installed, tmp_path):
    run(
        *(installed, tmp_path, "student", "--config", "quickstart_student", "--method", "supervised", "--use_cpu"),
        *("--max_steps", "2", "--output_dir", "student"),
    )
    assert (tmp_path / "student" / "model.safetensors").is_file()


def test_the_quickstart(installed, tmp_path):
    done = run(installed, tmp_path, "quickstart", "--length", "0.01", "--seeds", "0")
    assert "python -m hf_vipriors push --model outputs/quickstart/student" in done.stdout
    assert (tmp_path / "outputs" / "quickstart" / "report.html").is_file()
