"""Pushing by command, after a training and with it; what the card promises is run from a fresh process."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import yaml
from earlier_runs import as_earlier
from hub_server import Status
from huggingface_hub import ModelCard
from PIL import ExifTags, Image
from safetensors.torch import load_file, save_file

from hf_vipriors.cli.parser import Parser
from hf_vipriors.cli.push import main
from hf_vipriors.cli.student import main as train_student
from hf_vipriors.cli.teacher import main as train_teacher
from hf_vipriors.hub import upload as uploading
from hf_vipriors.training import DataArguments, StudentArguments, images_of_run
from hf_vipriors.training.load_images import load_images
from hf_vipriors.training.recipe_of_run import recipe_text
from hf_vipriors.training.resolve import resolve
from hf_vipriors.training.run_files import TRAINED_FILE, read_run

NAME = "owner/colours"


def refused(capsys, command, *arguments) -> str:
    with pytest.raises(SystemExit) as error:
        command(list(map(str, arguments)))
    assert error.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error:"), line
    return line


def test_dry_run_sends_nothing(hub_here, classifier_folder, capsys):
    main(["--model", str(classifier_folder), "--repo_id", NAME, "--dry_run", "--license", "mit"])
    shown = capsys.readouterr().out
    for word in (
        "README.md",
        "model.safetensors",
        "recipe.yaml",
        "training_curves.png",
        "license: mit",
        "nothing was",
    ):
        assert word in shown, word
    assert "examples/" not in shown, "a person's own images are not published unasked"
    assert not hub_here.log, "not a single request"


def test_push_and_what_the_card_promises(logged_in, classifier_folder, photos, tmp_path, capsys):
    main(["--model", str(classifier_folder), "--repo_id", NAME, "--examples", "2", "--private"])
    assert f'model="{NAME}"' in capsys.readouterr().out
    repository = logged_in.repository(NAME)
    files = repository.files()
    assert repository.private and len(repository.history()) == 2
    card = ModelCard(files["README.md"].decode())
    assert {each["src"] for each in card.data.widget} == {"examples/blue.png", "examples/red.png"} <= set(files)
    here = str(photos).encode()
    assert not [name for name, content in files.items() if here in content], "no path of this machine"
    snippets = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    assert len(snippets) == 3
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.open(photos / "test" / "red" / "0.png").save(tmp_path / "photo.jpg", exif=turned)
    environment = logged_in.environment(tmp_path / "home", logged_in.read_token)
    # Whoever follows the first two snippets has no hf_vipriors.
    stranger = "import sys\nsys.modules['hf_vipriors'] = None\n"
    programs = [
        stranger + snippets[0] + "scores = classify('photo.jpg')\nprint(len(scores), scores[0]['score'])\n",
        stranger + snippets[1] + "print(logits.shape[1], logits.softmax(dim=1).max().item())\n",
        snippets[2] + "print(model.config.num_labels)\n",
    ]
    printed = []
    for program in programs:
        options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 300}
        done = subprocess.run([sys.executable, "-c", program], **options)
        assert done.returncode == 0, program + done.stderr[-2000:]
        printed.append([float(word) for word in done.stdout.split()])
    assert printed[0] == pytest.approx(printed[1], abs=1e-5), "both turn the image upright"
    assert [classes for classes, *_ in printed] == [3, 3, 3]


def test_the_recipe_repeats_the_run(classifier_folder, tmp_path):
    run = json.loads((classifier_folder / "run.json").read_text())
    text = recipe_text(read_run(classifier_folder), {})
    assert "# hf-vipriors student --config recipe.yaml" in text
    assert "--data_dir: your own copy of photos" in text and "/photos" not in text
    (tmp_path / "recipe.yaml").write_text(text)
    data, args = Parser([DataArguments, StudentArguments], "").parse(
        [
            *("--config", str(tmp_path / "recipe.yaml"), "--output_dir", run["arguments"]["output_dir"]),
            *("--data_dir", run["data"]["data_dir"], "--use_cpu", "--disable_tqdm", "true", "--save_strategy", "no"),
        ]
    )
    made, again = run["arguments"], json.loads(json.dumps(args.to_dict(), default=str))
    assert {name: again[name] for name in made if made[name] != again[name]} == {}
    assert asdict(data) == run["data"]


def test_a_run_of_an_earlier_version_is_pushed_and_its_recipe_repeats_it(
    hub_here, classifier_folder, tmp_path, capsys
):
    folder = tmp_path / "student"
    shutil.copytree(classifier_folder, folder)
    given = json.loads((folder / "run.json").read_text())
    run = as_earlier(folder)
    assert "resolved" not in run and run["arguments"]["learning_rate"] != given["arguments"]["learning_rate"] is None
    main(["--model", str(folder), "--repo_id", NAME, "--dry_run"])
    assert "recipe.yaml" in capsys.readouterr().out and not hub_here.log
    (tmp_path / "recipe.yaml").write_text(recipe_text(read_run(folder), {}))
    data, args = Parser([DataArguments, StudentArguments], "").parse(
        ["--config", str(tmp_path / "recipe.yaml"), "--data_dir", run["data"]["data_dir"], "--use_cpu"]
    )
    again = resolve(args, images=36).args
    wanted = {name: entry["value"] for name, entry in given["resolved"].items()}
    assert {"learning_rate", "label_smoothing", "ema_decay"} <= wanted.keys()
    assert {name: getattr(again, name) for name in wanted} == wanted
    assert asdict(data) == run["data"]


def test_a_recipe_names_what_lies_on_this_machine(classifier_folder, teacher_folder, tmp_path):
    run = read_run(classifier_folder)
    (odd := tmp_path / "two\nlines: x").mkdir()
    run.arguments.update(teacher=str(teacher_folder), more_teachers=["me/one"], hub_token="<HUB_TOKEN>")
    run.data["data_dir"] = str(odd)
    text = recipe_text(run, {"mixup": 0.3})
    assert "# --teacher: teacher, a folder of a training before this one" in text
    assert (
        "# --data_dir: your own copy of two␊lines: x\n" in text and "# chosen on validation by a search: mixup" in text
    )
    settings = yaml.safe_load(text)
    assert settings["more_teachers"] == ["me/one"] and "teacher" not in settings and "hub_token" not in settings
    assert settings["mixup"] == 0.3, "what the search found is no argument that was given"
    assert recipe_text(replace(run, command="quickstart"), {}) is None


def test_beside_a_baseline(logged_in, classifier_folder, tmp_path, capsys):
    main(["--model", str(classifier_folder), "--repo_id", NAME, "--baseline", str(classifier_folder)])
    card = ModelCard(logged_in.repository(NAME).files()["README.md"].decode())
    assert "supervised baseline" in card.text and "0.0 points above the supervised baseline" in card.text
    assert "includes zero: no difference shown" in card.text and "No supervised baseline was measured" not in card.text
    other = tmp_path / "other"
    shutil.copytree(classifier_folder, other)
    (other / "answers.safetensors").unlink()
    line = refused(capsys, main, "--model", classifier_folder, "--repo_id", NAME, "--baseline", other)
    assert "no predictions to compare" in line


def test_a_baseline_on_other_images_is_none(classifier_folder, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(classifier_folder, other)
    push = ("--model", classifier_folder, "--repo_id", NAME, "--dry_run", "--baseline", other)
    main(list(map(str, push)))
    kept = load_file(other / TRAINED_FILE)
    save_file(kept | {"scored": kept["scored"] + 1}, other / TRAINED_FILE)
    assert "was scored on other images or classes" in refused(capsys, main, *push)
    (other / TRAINED_FILE).unlink()  # as earlier versions left it
    main(list(map(str, push)))
    config = json.loads((other / "config.json").read_text())
    config["label_names"][0] = "violet"
    (other / "config.json").write_text(json.dumps(config))
    assert "was scored on other images or classes" in refused(capsys, main, *push)


def test_images_are_those_of_the_training_wherever_a_person_is(
    classifier_folder, photos, tmp_path, capsys, monkeypatch
):
    """``run.json`` has the folder as it was given, relative to where the training began."""
    student, folders = tmp_path / "student", {name: tmp_path / name for name in ("same", "others", "renamed", "none")}
    shutil.copytree(classifier_folder, student)
    run = json.loads((student / "run.json").read_text())
    (student / "run.json").write_text(json.dumps(run | {"data": run["data"] | {"data_dir": "photos"}}))
    for name in ("same", "others", "renamed"):
        shutil.copytree(photos, folders[name] / "photos")
    for number, file in enumerate((folders["others"] / "photos").rglob("*.png")):
        Image.new("RGB", (40, 40), (number, 7, 9)).save(file)
    for split in ("train", "validation", "test"):
        (folders["renamed"] / "photos" / split / "red").rename(folders["renamed"] / "photos" / split / "violet")
    folders["none"].mkdir()
    words = {
        "others": "none of the test images is one that",
        "renamed": "the images have other classes today",
        "none": "no such folder 'photos'",
    }
    push = ("--model", student, "--repo_id", NAME, "--dry_run", "--examples", "2")
    for name, folder in folders.items():
        monkeypatch.chdir(folder)
        if name == "same":
            main(list(map(str, push)))
        else:
            line = refused(capsys, main, *push)
            assert words[name] in line and (
                name == "renamed" or "('photos', if it is a path, counts from the current" in line
            )
    kept = load_file(student / TRAINED_FILE)
    del kept["scored"]  # as earlier versions left it
    save_file(kept, student / TRAINED_FILE)
    monkeypatch.chdir(folders["others"])
    assert "none of the train images is one that" in refused(capsys, main, *push)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("answers.safetensors", "xx"),
        ("trainer_state.json", "{}"),
        ("trainer_state.json", "[]"),
        ("metrics.json", "[]"),
    ],
)
def test_damaged_files_of_a_run_are_one_line(name, content, classifier_folder, tmp_path, capsys):
    folder = tmp_path / "student"
    shutil.copytree(classifier_folder, folder)
    (folder / name).write_text(content)
    push = ("--model", folder, "--repo_id", NAME, "--dry_run", "--baseline", folder)
    line = refused(capsys, main, *push)
    assert name in line and "is damaged" in line


def test_images_are_read_once_and_not_before_the_onnx_extra_is_there(classifier_folder, capsys, monkeypatch):
    read = []
    monkeypatch.setattr(images_of_run, "load_images", lambda *given: read.append(given) or load_images(*given))
    push = ("--model", classifier_folder, "--repo_id", NAME, "--dry_run", "--examples", "2")
    main(list(map(str, (*push, "--space", "owner/demo"))))
    assert len(read) == 1
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert 'pip install "hf-vipriors[onnx]"' in refused(capsys, main, *push, "--onnx") and len(read) == 1


@pytest.mark.slow
def test_with_onnx_and_a_demo(logged_in, classifier_folder, tmp_path, capsys):
    folder = tmp_path / "student"
    shutil.copytree(classifier_folder, folder)
    main(["--model", str(folder), "--repo_id", NAME, "--onnx", "--space", "owner/demo", "--license", "mit"])
    files = logged_in.repository(NAME).files()
    assert {f"onnx/{name}" for name in ("model.onnx", "model_quantized.onnx", "config.json")} <= set(files)
    card = files["README.md"].decode()
    assert f'pipeline("image-classification", "{NAME}"' in card and "| int8 |" in card and "| float32 |" in card
    demo = logged_in.repository("owner/demo", "space")
    assert {"app.py", "settings.json", "neighbours.safetensors", "thumbnails.png"} <= set(demo.files())
    assert json.loads(demo.files()["settings.json"])["model"] == NAME and demo.sdk == "gradio"
    assert "small copies of 36 training images" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_static_demo_shows_the_model_that_was_pushed_with_it(logged_in, classifier_folder, tmp_path, capsys):
    folder = tmp_path / "student"
    shutil.copytree(classifier_folder, folder)
    repository = logged_in.add(NAME, private=True)
    main(["--model", str(folder), "--repo_id", NAME, "--space", "owner/demo", "--space_kind", "static"])
    demo = logged_in.repository("owner/demo", "space")
    assert {"index.html", "page.js", "preprocessing.js", "settings.json", "README.md"} <= set(demo.files())
    settings = json.loads(demo.files()["settings.json"])
    assert (settings["model"], settings["revision"]) == (NAME, repository.history()[0].oid) and demo.sdk == "static"
    assert "onnx/model.onnx" in repository.files(settings["revision"]), "--onnx follows from the kind"
    said = " ".join(capsys.readouterr().err.split())
    assert "some test images" in said and "training images" not in said
    assert f"{NAME} is private, the visitors of owner/demo cannot read it" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--space_kind", "static"], "does nothing without --space"),
        (["--space", "static"], "write --space me/my-flowers-demo --space_kind static"),
        (["--space", "me/demo", "--space_kind", "docker"], "unknown value 'docker' for --space_kind"),
        (["--space", "me/demo", "--space_kind", "static", "--private"], "--private: the visitors of a static Space"),
    ],
)
def test_a_demo_that_cannot_be_is_refused_at_once(options, words, capsys, tmp_path):
    assert words in refused(capsys, main, "--model", tmp_path, "--repo_id", NAME, *options)


def test_what_cannot_be_pushed(hub_here, tmp_path, capsys):
    assert "--repo_id org/name is missing" in refused(capsys, main, "--model", tmp_path)
    assert "has no owner" in refused(capsys, main, "--model", tmp_path, "--repo_id", "flowers")
    assert "no model in" in refused(capsys, main, "--model", tmp_path, "--repo_id", NAME)


# While training


def test_a_student_is_pushed_when_it_is_done(logged_in, student_options, tmp_path):
    folder = tmp_path / "student"
    options = ["--method", "supervised", "--output_dir", str(folder), "--push_to_hub", "--hub_model_id", NAME]
    train_student([*student_options, *options, "--hub_private_repo", "true"])
    repository = logged_in.repository(NAME)
    files = repository.files()
    assert repository.private and len(repository.history()) == 2, "checkpoints are not pushed"
    assert files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert not [name for name in files if "checkpoint" in name or name.endswith((".pt", ".pth", ".bin"))]
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert logged_in.write_token.encode() not in everything


def test_a_teacher_is_pushed_too_and_its_token_stays_here(hub_here, teacher_options, tmp_path, capfd):
    options = ["--output_dir", str(tmp_path / "t"), "--push_to_hub", "--hub_model_id", NAME]
    train_teacher([*teacher_options, *options, "--hub_token", hub_here.write_token])
    files = hub_here.repository(NAME).files()
    written = [path.read_bytes() for path in (tmp_path / "t").rglob("*") if path.is_file()]
    for place in (*files.values(), *written, *(text.encode() for text in capfd.readouterr())):
        assert hub_here.write_token.encode() not in place
    assert {"config.json", "model.safetensors", "modeling_vipriors.py", "README.md", "recipe.yaml"} <= set(files)


def test_what_would_fail_later_fails_first(hub_here, student_options, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "student"
    options = [*student_options, "--method", "supervised", "--output_dir", folder, "--push_to_hub"]
    assert "--hub_model_id org/name" in refused(capsys, train_student, *options)
    assert "not logged in" in refused(capsys, train_student, *options, "--hub_model_id", NAME)
    monkeypatch.setenv("HF_TOKEN", hub_here.write_token)
    hub_here.add(NAME).push({"config.json": b'{"model_type": "bert"}'})
    assert "holds another model" in refused(capsys, train_student, *options, "--hub_model_id", NAME)
    assert "checkpoints hold pickles" in refused(
        capsys, train_student, *options, "--hub_model_id", "owner/x", "--hub_strategy", "checkpoint"
    )
    assert not folder.exists()


def test_a_push_that_fails_loses_nothing(logged_in, waits, student_options, tmp_path, capsys):
    folder = tmp_path / "my student"
    logged_in.order(Status(500), "POST", "/commit/", times=uploading.ATTEMPTS)
    options = [*student_options, "--method", "supervised", "--output_dir", folder, "--push_to_hub"]
    line = refused(capsys, train_student, *options, "--hub_model_id", NAME)
    command = f"hf-vipriors push --model '{folder}' --repo_id {NAME}"
    assert "The model is safe" in line and command in line
    main(shlex.split(command)[2:])
    assert "model.safetensors" in logged_in.repository(NAME).files()
