import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import pipeline

from hf_vipriors.experiments import quickstart

ROOT = Path(__file__).parents[2]
RECIPE = """
dataset_name: fashion-vipriors
images_per_class: 6
backbone: resnet18
backbone_args: {channels: [8, 8, 16, 16], stem_type: deep, stem_width: 4}
image_size: 32
num_train_epochs: 1
use_cpu: true
"""


@pytest.fixture
def recipes(tmp_path):
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "quickstart_teacher.yaml").write_text(RECIPE + "method: simclr\nmax_steps: 3\nprojector_dim: 8\n")
    (folder / "quickstart_student.yaml").write_text(RECIPE + "per_device_train_batch_size: 10\ndistil_from_epoch: 0\n")
    return folder


@pytest.mark.slow
def test_every_run_the_report_and_the_student(recipes, tmp_path):
    folder = tmp_path / "quickstart"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "scripts/quickstart.py"]
    options = ["--recipes", str(recipes), "--output_dir", str(folder), "--seeds", "3", "4"]
    done = subprocess.run([*launch, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    shown = done.stdout
    for words in ("supervised baseline", "phase 1 + phase 2", "FixMatch", "pipeline("):
        assert words in shown
    report = json.loads((folder / "report.json").read_text())
    baseline = next(row for row in report["rows"] if row["baseline"])
    rows = {row["name"]: row for row in report["rows"]}
    names = {"distilled": "phase 1 + phase 2", "student": "long phase 1 + FixMatch"}
    for name, row in (("baseline", baseline), *((run, rows[title]) for run, title in names.items())):
        measured = [
            json.loads((place / name / "metrics.json").read_text())["test"]["top1"]
            for place in (folder, folder / "seed4")
        ]
        assert row["top1"] == measured, "the table shows what the runs measured"
    page = (folder / "report.html").read_text()
    assert "<script" not in page and "http" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/png") > 12
    card = (folder / "student" / "README.md").read_text()
    assert "from scratch" in card and f"{100 * baseline['top1'][0]:.1f}" in card
    assert len(pipeline("image-classification", model=str(folder / "student"))(str(image(tmp_path)))) == 5


def image(folder):
    from PIL import Image

    Image.new("L", (40, 30), 120).save(folder / "gray.png")
    return folder / "gray.png"


def test_second_run_does_not_replace_the_first(recipes, tmp_path, capsys):
    folder = tmp_path / "quickstart"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    with pytest.raises(SystemExit) as stop:
        quickstart.main(["--output_dir", str(folder), "--recipes", str(recipes)])
    assert stop.value.code == 2 and "--overwrite_output_dir" in capsys.readouterr().err


def test_missing_recipes_are_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        quickstart.main(["--output_dir", str(tmp_path / "out"), "--recipes", str(tmp_path)])
    assert stop.value.code == 2 and "quickstart_teacher.yaml" in capsys.readouterr().err
