"""``--validation_share 0``: every label is learnt from, and nothing is measured that was not set apart."""

import json
import re
import shutil

import pytest

from hf_vipriors.advice.advise import main as advise
from hf_vipriors.cli.push import main as push
from hf_vipriors.cli.student import main as train_student
from hf_vipriors.cli.teacher import main as train_teacher
from hf_vipriors.data.columns import label_array
from hf_vipriors.experiments.reproduce import main as reproduce
from hf_vipriors.scoring.evaluate import main as evaluate
from hf_vipriors.training.images_of_run import ImagesOfRun


@pytest.fixture(scope="module")
def few(photos, tmp_path_factory):
    """Eight images in one folder, seven with a label in a table, of one class a single one."""
    root = tmp_path_factory.mktemp("few")
    rows = ["file_name,label"]
    for name, count in (("red", 4), ("green", 3), ("blue", 1)):
        for number in range(count):
            shutil.copy(photos / "train" / name / f"{number}.png", root / f"{name}{number}.png")
            rows += [f"{name}{number}.png,{name}"] if (name, number) != ("red", 3) else []
    (root / "labels.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def options(common, few):
    return [*common, *images_of(few)]


def images_of(folder):
    return ["--data_dir", str(folder), "--labels", str(folder / "labels.csv"), "--validation_share", "0"]


@pytest.fixture(scope="module")
def student(options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("student") / "student"
    run = ["--method", "fixmatch", "--num_train_epochs", "1", "--per_device_train_batch_size", "2"]
    train_student([*options, *run, "--propagate_labels", "true", "--output_dir", str(folder)])
    return folder


def test_a_student_learns_from_every_label_and_says_that_it_was_not_measured(student, few):
    metrics, card = json.loads((student / "metrics.json").read_text()), (student / "README.md").read_text()
    assert not {"test", "test_is_validation"} & metrics.keys() and not (student / "answers.safetensors").exists()
    images = ImagesOfRun(student).splits
    assert len(images.splits["train"]) == 7 and len(set(label_array(images.splits["train"]))) == 3
    assert "How often it is right was not measured" in card and "top-1" not in card.split("## How to use it")[0]
    assert "validation" not in card.split("## What it is not for")[0]


def test_without_it_the_images_do_not_do(options, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train_student([*options[:-2], "--method", "supervised", "--output_dir", str(tmp_path / "no")])
    assert stop.value.code == 2 and "class 'blue' has 1; add images or" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    "asked",
    [
        ["--load_best_model_at_end", "true"],
        ["--save_strategy", "best"],
        ["--eval_on_start", "true", "--do_eval", "true"],
        ["--corruptions", "true"],
    ],
)
def test_what_would_be_measured_is_refused_and_nothing_is_written(options, asked, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train_student([*options, *asked, "--method", "supervised", "--output_dir", str(tmp_path / "no")])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and f"{asked[0]}" in said and "--validation_share 0 sets none apart" in said
    assert not (tmp_path / "no").exists()


def test_a_table_says_so_before_it_trains(few, tmp_path, capsys):
    data = {"dataset_name": "imagefolder", "data_dir": str(few), "labels": str(few / "labels.csv")}
    options = data | {"validation_share": 0, "method": "supervised", "backbone": "test_resnet", "max_steps": 1}
    runs = {"plain": {"job": "train_student", "recipe": "quickstart_student.yaml", "options": options}}
    groups = [{"title": "all", "rows": [{"name": "plain", "run": "plain", "score": "test", "baseline": True}]}]
    table = tmp_path / "own.yaml"
    table.write_text(json.dumps({"title": "own", "runs": runs, "groups": groups}))
    with pytest.raises(SystemExit) as stop:
        reproduce(["--table", str(table), "--output_dir", str(tmp_path / "out")])
    assert stop.value.code == 2 and "with validation_share 0 no images are set apart" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/seed*"))


def test_a_teacher_is_told_the_rank_of_its_features(options, tmp_path):
    run = ["--num_train_epochs", "1", "--per_device_train_batch_size", "4", "--projector_dim", "8"]
    train_teacher([*options, *run, "--output_dir", str(tmp_path / "teacher")])
    metrics = json.loads((tmp_path / "teacher" / "metrics.json").read_text())
    assert not {"knn", "linear"} & metrics.keys()
    history = json.loads((tmp_path / "teacher" / "trainer_state.json").read_text())["log_history"]
    assert any("eval_effective_rank" in entry for entry in history)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "no test images, and --validation_share 0 sets none apart: add some in test/CLASS/"),
        (["--split", "validation"], "no validation images"),
    ],
)
def test_images_that_are_not_there_are_not_scored(student, few, more, message, capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate([*images_of(few), "--model", str(student), *more])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_no_search_without_validation(options, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        search = ["--method", "supervised", "--trials", "2", "--search_space", "supervised"]
        train_student([*options, *search, "--output_dir", str(tmp_path / "no")])
    assert stop.value.code == 2 and "--trials chooses on validation" in capsys.readouterr().err


def test_a_test_split_is_scored_without_a_linear_probe(classifier_folder, photos, tmp_path):
    for split in ("train", "test"):
        shutil.copytree(photos / split, tmp_path / "photos" / split)
    here = ["--model", str(classifier_folder), "--data_dir", str(tmp_path / "photos"), "--validation_share", "0"]
    evaluate([*here, "--output", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())["scores"]
    assert {"top-1", "kNN"} == found[str(classifier_folder)].keys()


def test_such_a_student_goes_to_the_hub_with_onnx(student, capsys):
    push(["--model", str(student), "--repo_id", "me/few", "--onnx", "--dry_run"])
    shown = capsys.readouterr().out
    assert "onnx/model.onnx" in shown and re.search(r"float32 +–", shown)


def test_advice_tells_what_validation_takes(few, photos, capsys):
    advise(["--data_dir", str(photos), "--trial_steps", "0"])
    assert "validation takes" not in capsys.readouterr().out, "it has a validation folder"
    own = few.parent / "own"
    shutil.copytree(photos / "train", own / "train", dirs_exist_ok=True)
    advise(["--data_dir", str(own), "--trial_steps", "0"])
    assert "validation takes 6 of the 36 labels" in " ".join(capsys.readouterr().out.split())
