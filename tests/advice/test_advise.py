import json
import re
import shlex
import shutil

import pytest
from PIL import Image

from hf_vipriors.advice import advise
from hf_vipriors.advice.advise import name_of
from hf_vipriors.advice.page import show
from hf_vipriors.advice.rules import Job
from hf_vipriors.advice.trial import seconds_per_step
from hf_vipriors.cli import student as train_student
from hf_vipriors.cli import teacher as train_teacher
from hf_vipriors.cli.main import main as run_command
from hf_vipriors.training import DataArguments
from hf_vipriors.training.load_images import load_images as load_data


def advice_on(folder, tmp_path, *options):
    output = tmp_path / "out" / "advice.json"
    advise.main(["--data_dir", str(folder), "--device", "cpu", "--output", str(output), *options])
    return json.loads(output.read_text())


@pytest.fixture
def messy(photos, tmp_path):
    """The small folder with a leak, a mislabelled copy, a copy within train, and a broken file."""
    folder = shutil.copytree(photos, tmp_path / "messy")
    shutil.copy(folder / "train" / "red" / "0.png", folder / "test" / "red" / "leak.png")
    Image.open(folder / "train" / "red" / "1.png").save(folder / "train" / "blue" / "wrong.bmp")
    shutil.copy(folder / "unlabelled" / "0.png", folder / "unlabelled" / "copy.png")
    (folder / "train" / "green" / "2.png").write_bytes(b"no image")
    (folder / "train" / "green" / "3.cr2").write_bytes(b"raw")
    shutil.rmtree(folder / "validation" / "blue")
    return folder


def test_a_clean_folder(photos, tmp_path, capsys):
    found = advice_on(photos, tmp_path, "--trial_steps", "0")
    assert found["counts"] == {"train": 36, "unlabelled": 10, "validation": 12, "test": 12}
    assert found["per_class"]["red"] == {"train": 12, "validation": 4, "test": 4}
    assert found["shorter_side"] == [20, 20, 20] and found["gray"] == 0
    assert found["duplicates"] == [] and found["groups"] == [] and found["unreadable"] == {}
    assert [step["seconds"] for step in found["steps"]] == [None] * 3
    shown = capsys.readouterr().out
    assert "Do I have enough images?" in shown and "hf-vipriors teacher" in shown
    assert "The same image twice" not in shown and "unreadable" not in shown


def test_what_is_wrong_is_found_and_named(messy, tmp_path, capsys):
    (messy / "train" / "Red").mkdir()
    Image.effect_noise((20, 20), 64).save(messy / "train" / "Red" / "0.png")
    found = advice_on(messy, tmp_path, "--trial_steps", "0")
    pairs = {(d["first"], d["second"]): (d["exact"], d["near"]) for d in found["duplicates"]}
    assert pairs == {("train", "train"): (1, 0), ("train", "test"): (1, 0), ("unlabelled", "unlabelled"): (1, 0)}
    disagreeing, leak, _ = found["groups"]
    assert disagreeing["labels_disagree"] and {image["label"] for image in disagreeing["images"]} == {"red", "blue"}
    assert {image["split"] for image in leak["images"]} == {"train", "test"}
    assert any("leak.png" in image["place"] for image in leak["images"])
    assert len(found["unreadable"]["train"]) == 1 and "green/2.png" in found["unreadable"]["train"][0]
    assert found["counts"]["train"] == 37, "two more, one broken"
    assert all("--on_bad_image skip" in step["command"] for step in found["steps"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "LABELS DISAGREE" in shown and "leak" in shown and "training images among the 13 of test: 1" in shown
    assert "Mend or mind" in shown and "! classes differ only in case: 'Red', 'red'; are they one?" in shown
    assert "1 .cr2 (camera raw" in shown and "no validation image of 'Red', 'blue'" in shown
    assert "test/red/leak.png" in shown and str(tmp_path) + "/messy/test" not in shown, "paths from the folder on"


@pytest.mark.slow
def test_times_come_from_a_trial_that_leaves_nothing(photos, tmp_path, contents):
    before = contents(photos)
    found = advice_on(photos, tmp_path, "--trial_steps", "4")
    assert [step["name"] for step in found["steps"]] == ["supervised", "phase 1", "fine-tuning"]
    assert all(0.1 < step["seconds"] < 3600 for step in found["steps"])
    assert contents(photos) == before
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.slow
def test_every_job_beside_a_large_pool_is_timed(photos, tmp_path):
    """Where FixMatch is recommended, its trial has images without labels."""
    folder = shutil.copytree(photos, tmp_path / "pool")
    for number in range(80):
        shutil.copy(folder / "unlabelled" / f"{number % 10}.png", folder / "unlabelled" / f"more{number}.png")
    found = advice_on(folder, tmp_path, "--trial_steps", "4")
    assert [step["name"] for step in found["steps"]] == ["supervised", "phase 1", "FixMatch"]
    assert all(step["seconds"] > 0 for step in found["steps"])


@pytest.mark.slow
def test_a_trial_measures_the_step(photos, monkeypatch):
    """A method that sleeps 0.2 s a step must be timed at 0.2 s and its own time, not at a tenth or ten times that."""
    import time

    from hf_vipriors.methods import Supervised

    options = {"method": "supervised", "backbone": "test_resnet", "image_size": 32, "per_device_train_batch_size": 4}
    data = DataArguments(dataset_name="imagefolder", data_dir=str(photos))
    splits = load_data(data)
    job = Job("supervised", "train_student", options)
    alone = seconds_per_step(job, data, splits, images=36, steps=8)
    original = Supervised.forward
    monkeypatch.setattr(Supervised, "forward", lambda self, *a, **k: (time.sleep(0.2), original(self, *a, **k))[1])
    slow = seconds_per_step(job, data, splits, images=36, steps=8)
    assert 0.15 < slow - alone < 0.5


def test_folders_that_differ_behind_a_dot_have_outputs_of_their_own(tmp_path):
    (tmp_path / "photos.parquet").write_bytes(b"")
    for place, name in (("pool.v1", "pool.v1"), ("photos.parquet", "photos")):
        assert name_of(DataArguments(dataset_name=str(tmp_path / place))) == name
    assert name_of(DataArguments(data_dir=str(tmp_path / "pool.v2"))) == "pool.v2"


@pytest.mark.slow
def test_the_commands_run(photos, tmp_path, monkeypatch):
    """Word for word, but for the length and the folders."""
    found = advice_on(photos, tmp_path, "--trial_steps", "0")
    monkeypatch.chdir(tmp_path)
    mains = {"student": train_student.main, "teacher": train_teacher.main}
    for step in found["steps"]:
        program, name, *options = shlex.split(step["command"])
        assert program == "hf-vipriors"
        mains[name]([*options, "--use_cpu", "--max_steps", "2", "--disable_tqdm", "true"])
    assert {path.name for path in (tmp_path / "outputs").iterdir()} == {
        f"{photos.name}_{kind}" for kind in ("baseline", "teacher", "student")
    }


def test_without_labels_phase_1_is_advised_and_then_a_page_to_label_on(
    photos, teacher_folder, tmp_path, capsys, monkeypatch
):
    shutil.copytree(photos / "unlabelled", tmp_path / "bare" / "unlabelled")
    found = advice_on(tmp_path / "bare", tmp_path, "--trial_steps", "0")
    assert found["per_class"] == {} and found["steps"][0]["name"] == "phase 1" and len(found["steps"]) == 2
    assert "Nothing is labelled" in capsys.readouterr().out
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "bare_teacher").symlink_to(teacher_folder)
    monkeypatch.chdir(tmp_path)
    run_command(shlex.split(found["steps"][1]["command"])[1:])
    assert re.search(r'"sizes": \[\d', (tmp_path / "next.html").read_text(encoding="utf-8"))


def test_no_test_split_is_said_and_is_no_leak(photos, tmp_path, capsys):
    shutil.copytree(photos / "train", tmp_path / "flat")
    found = advice_on(tmp_path / "flat", tmp_path, "--trial_steps", "0")
    assert found["test_is_validation"] and "test" not in found["counts"] and found["duplicates"] == []
    assert "no test split" in capsys.readouterr().out


def test_the_protocol_of_the_command_line_is_kept(photos, tmp_path):
    found = advice_on(photos, tmp_path, "--trial_steps", "0", "--images_per_class", "5", "--unlabelled", "rest")
    assert found["counts"]["train"] == 15 and found["counts"]["unlabelled"] == 31
    assert all("--images_per_class 5 --unlabelled rest" in step["command"] for step in found["steps"])


def test_what_a_student_has_to_beat_is_known_before_training(messy, tmp_path, capsys):
    (messy / "test" / "red" / "bad.png").write_bytes(b"no image")
    shutil.copytree(messy / "train" / "green", messy / "validation" / "blue")
    options = ["--trial_steps", "0", "--compare", "fashion-vipriors-teacher"]
    found = advice_on(messy, tmp_path, *options)
    (network,) = found["compared"].values()
    assert network["image_size"] == 48 and network["score"]["count"] == 13, "of 14 test images one cannot be read"
    # Always the most frequent class of train, blue with a copy too many: 4 of 13.
    assert network["difference"] == pytest.approx(network["score"]["top1"] - 4 / 13)
    *_, check = found["steps"]
    assert shlex.split(check["command"])[1] == "evaluate" and check["seconds"] is None
    assert check["command"].endswith("--model outputs/messy_student --compare fashion-vipriors-teacher")
    shown = " ".join(capsys.readouterr().out.split())
    assert "fashion-vipriors-teacher, frozen" in shown and "licence apache-2.0" in shown
    assert f"A student has to beat {100 * network['score']['top1']:.1f} %" in shown
    assert "times the parameters of the recommended student" in shown


def test_without_labels_there_is_nothing_to_compare(photos, tmp_path, capsys):
    shutil.copytree(photos / "unlabelled", tmp_path / "bare" / "unlabelled")
    with pytest.raises(SystemExit):
        advice_on(tmp_path / "bare", tmp_path, "--compare", "fashion-vipriors-teacher")
    assert "--compare fits a classifier to labels, and no image here has one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--compare", "./nothing", "--data_dir", "no/such"], ["./nothing (--compare)", "no such folder"]),
        (["--trial_steps", "3"], ["trial_steps", "at least 4"]),
        (["--device", "gpu"], ["gpu", "cpu"]),
        (["--model", "outputs/student"], ["model"]),
        (["--data_dir", "no/such"], ["no/such"]),
    ],
)
def test_a_mistake_is_one_line(photos, options, words, capsys):
    with pytest.raises(SystemExit) as stop:
        advise.main(["--data_dir", str(photos), *options])
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert all(word in line for word in words), line


def test_nothing_readable_and_an_existing_output_are_refused(photos, tmp_path, capsys):
    for name in ("a", "b"):
        for split in ("train", "test"):
            (tmp_path / "bad" / split / name).mkdir(parents=True)
            for number in range(3):
                (tmp_path / "bad" / split / name / f"{number}.png").write_bytes(b"x")
    (tmp_path / "there.json").write_text("mine")
    for options in (["--data_dir", str(tmp_path / "bad")], ["--output", str(tmp_path / "there.json")]):
        with pytest.raises(SystemExit):
            advise.main(["--data_dir", str(photos), *options])
    errors = capsys.readouterr().err
    assert "none of the images can be read" in errors and "there.json exists" in errors
    assert (tmp_path / "there.json").read_text() == "mine"


def test_many_classes_are_shown_smallest_first(photos, tmp_path):
    from dataclasses import replace

    from rich.console import Console

    console = Console(record=True, width=100, quiet=False)
    data = DataArguments(dataset_name="imagefolder", data_dir=str(photos))
    found = advise.advise(data, advise.AdviceArguments(trial_steps=0, device="cpu"), console)
    many = {f"class{i:03d}": {"train": 500 - i, "validation": 1, "test": 1} for i in range(300)}
    show(replace(found, per_class=many), console)
    text = console.export_text()
    assert "the 20 smallest of 300" in text and "class299" in text and "class280" in text and "class279" not in text
