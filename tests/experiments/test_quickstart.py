import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import load_dataset
from transformers import pipeline

from hf_vipriors.experiments import quickstart
from hf_vipriors.experiments.quickstart_report import plain_words
from hf_vipriors.reports.report import RunRow
from hf_vipriors.training import DataArguments
from hf_vipriors.training.load_images import load_images

ROOT = Path(__file__).parents[2]
RECIPE = """
dataset_name: fashion-vipriors
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
    (folder / "quickstart_teacher.yaml").write_text(
        RECIPE + "method: simclr\nmax_steps: 3\nprojector_dim: 8\nper_device_train_batch_size: 128\n"
    )
    for name in ("student", "few_student"):
        (folder / f"quickstart_{name}.yaml").write_text(
            RECIPE + "per_device_train_batch_size: 0\ndistil_from_epoch: 0\n"
        )
    return folder


@pytest.mark.slow
def test_every_run_the_report_and_the_student(recipes, tmp_path):
    folder = tmp_path / "quickstart"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "scripts/quickstart.py"]
    options = ["--recipes", str(recipes), "--output_dir", str(folder), "--seeds", "3", "4"]
    done = subprocess.run([*launch, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    shown = done.stdout
    assert "13 of 13" in shown and "14 of" not in shown and "seed 4, long phase 1 (it ships) + FixMatch" in shown
    for words in ("labels alone", "long phase 1 + fine-tuning", "FixMatch", "pipeline("):
        assert words in shown
    report = json.loads((folder / "report.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    names = {
        "baseline": "labels alone",
        "finetuned": "phase 1 + fine-tuning",
        "long_finetuned": "long phase 1 + fine-tuning",
        "fixmatch": "long phase 1 + FixMatch",
        "student": "long phase 1 + label-next + FixMatch",
    }
    assert rows.keys() == {*names.values(), "long phase 1 + linear probe"} and rows["labels alone"]["baseline"]
    for name, title in names.items():
        places = (folder / name, folder / "seed4" / name)
        measured = [json.loads((place / "metrics.json").read_text())["test"]["top1"] for place in places]
        assert rows[title]["top1"] == measured, "the table shows what the runs measured"
    runs = [
        json.loads((place / "run.json").read_text()) for place in (folder / "baseline", folder / "seed4" / "student")
    ]
    assert [run["data"]["images_per_class"] for run in runs] == [5, 5]
    assert [run["data"]["subset_seed"] for run in runs] == [3, 4], "each seed has its own labels"
    assert (folder / "teacher").is_dir() and not (folder / "seed4" / "teacher").exists(), "phase 1 needs no labels"
    baseline = rows["labels alone"]
    page = (folder / "report.html").read_text()
    assert "<script" not in page and "http" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/png") > 12
    card = (folder / "student" / "README.md").read_text()
    assert "from scratch" in card and f"{100 * baseline['top1'][0]:.1f}" in card
    assert len(pipeline("image-classification", model=str(folder / "student"))(str(image(tmp_path)))) == 5


@pytest.fixture(scope="module")
def fashion():
    return load_images(DataArguments(images_per_class=5))


@pytest.mark.parametrize(
    ("student", "words"),
    [
        ([0.70, 0.71, 0.72], "5,000 images without labels were worth +10.0 points (+9.9 to +10.1) beside 5 labels"),
        ([0.60, 0.66, 0.58], "made no difference beside 5 labels a class that this could show"),
        ([0.50, 0.51, 0.52], "5,000 images without labels cost 10.0 points (-10.1 to -9.9) beside 5 labels"),
    ],
)
def test_what_was_gained_is_said_in_plain_words(student, words, fashion):
    baseline = RunRow("labels alone", "", [0.6, 0.61, 0.62], None, 2000, [], baseline=True)
    shown = [baseline, RunRow("student", "", student, None, 2000, [])]
    data = DataArguments(images_per_class=5)
    said = plain_words(shown, fashion, data, chosen=False)
    assert words in said and ("when they train longer" in said) == ("worth" in words)
    assert said.endswith("CIFAR-10 (model_cards/RESULTS.md).")
    other = plain_words(shown, fashion, replace(data, dataset_name="uoft-cs/cifar10"), chosen=False)
    assert other.endswith("what the network can learn."), "nobody knows how hard other images are"


@pytest.mark.parametrize(
    ("fixmatch", "chosen", "words"),
    [
        (0.65, 0.7, ["were worth +5.0 points (+4.9 to +5.1) beside", "it is +10.0 points (+9.9 to +10.1)."]),
        (0.7, 0.65, ["were worth +10.0 points", "on the images that label-next asks for it is +5.0 points"]),
        (0.5, 0.7, ["cost 10.0 points", "it is +10.0 points"]),
    ],
)
def test_what_the_images_gave_is_told_apart_from_the_choice_of_labels(fixmatch, chosen, words, fashion):
    shown = [
        RunRow(name, "", [top1, top1 + 0.01, top1 + 0.02], None, 2000, [], baseline=top1 == 0.6)
        for name, top1 in (("labels alone", 0.6), ("FixMatch", fixmatch), ("label-next", chosen))
    ]
    said = plain_words(shown, fashion, DataArguments(images_per_class=5), chosen=True)
    assert all(each in said for each in words)


@pytest.mark.slow
@pytest.mark.parametrize("has_test", [True, False])
def test_other_images_start_from_the_phase_1_trained_here(has_test, recipes, photos, tmp_path, capsys):
    """A Hub data set as parquet, one file: what is not chosen is the pool, and no teacher ships for it."""
    splits = load_dataset("imagefolder", data_dir=str(photos))
    (tmp_path / "set").mkdir()
    splits["test"] = splits["test"].select(range(0, 12, 3))  # fewer than a page shows
    names = ("train", "test") if has_test else ("train",)
    for split in names:
        splits[split].to_parquet(tmp_path / "set" / f"{split}.parquet")
    folder = tmp_path / "out"
    quickstart.main(
        [
            *["--dataset", str(tmp_path / "set"), "--images_per_class", "1", "--seeds", "0", "1"],
            *["--recipes", str(recipes), "--output_dir", str(folder)],
        ]
    )
    shown = capsys.readouterr().out
    assert "11 of 11" in shown and "seed 1, phase 1 + FixMatch" in shown
    report = json.loads((folder / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == [
        *("labels alone", "phase 1 + fine-tuning", "phase 1 + linear probe", "phase 1 + FixMatch"),
        "phase 1 + label-next + FixMatch",
    ]
    assert report["commands"] == [
        f"hf-vipriors quickstart --images_per_class 1 --dataset {tmp_path / 'set'} --seeds 0 1 --length 1 "
        f"--recipes {recipes}"
    ]
    assert "3 labelled training images (1 of each of 3 classes), " in report["subtitle"]
    scored = "test" if has_test else "validation"
    page = (folder / "report.html").read_text()
    assert f" {scored} images, 2 choices of the labelled images, " in report["subtitle"]
    assert f"Top-1 is the share of {scored} images" in page and ("No independent test split" in page) != has_test
    assert shown.count(f"{scored} top-1") == 10 and f"share the {report['rows'][0]['test_images']} {scored}" in page
    held = [images_of(folder / name)["validation"] for name in ("student", "seed1/student")]
    phase_1 = images_of(folder / "teacher")
    assert held[0] == held[1] and not held[1] & (phase_1["train"] | phase_1["unlabelled"])
    run = json.loads((folder / "student" / "run.json").read_text())
    assert run["arguments"]["teacher"] == str(folder / "teacher") and run["data"]["unlabelled"] == "rest"
    assert run["data"]["choose_with"] == str(folder / "teacher")


def images_of(run):
    data = DataArguments(**json.loads((run / "run.json").read_text())["data"])
    return {split: set(images["origin"]) for split, images in load_images(data).splits.items()}


def image(folder):
    from PIL import Image

    Image.new("L", (40, 30), 120).save(folder / "gray.png")
    return folder / "gray.png"


def test_second_run_does_not_replace_the_first(recipes, tmp_path, capsys):
    folder = tmp_path / "quickstart"
    folder.mkdir()
    options = ["--output_dir", str(folder), "--recipes", str(recipes)]
    for command, more, said in (
        ("quickstart", [], "holds another run: add --overwrite_output_dir to replace it, or choose another folder"),
        ("train_student", ["--overwrite_output_dir"], "holds a run that is no quickstart: choose another folder"),
    ):
        (folder / "run.json").write_text(json.dumps({"command": command}))
        with pytest.raises(SystemExit) as stop:
            quickstart.main([*options, *more])
        assert stop.value.code == 2 and said in capsys.readouterr().err
        assert json.loads((folder / "run.json").read_text()) == {"command": command}


def test_an_interruption_says_how_to_begin_anew(recipes, tmp_path, capsys, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(quickstart, "train_all", interrupted)
    with pytest.raises(SystemExit) as stop:
        quickstart.main(["--output_dir", str(tmp_path / "out"), "--recipes", str(recipes)])
    assert stop.value.code == 130
    assert "interrupted: give the command again with --overwrite_output_dir" in capsys.readouterr().err


def test_missing_recipes_are_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        quickstart.main(["--output_dir", str(tmp_path / "out"), "--recipes", str(tmp_path)])
    assert stop.value.code == 2 and "quickstart_teacher.yaml" in capsys.readouterr().err
