"""KD, FitNet, CRD and SSKD from the command line, and the head that SSKD keeps beside a teacher."""

import json
import shutil

import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import pipeline

from hf_vipriors.cli.student import main
from hf_vipriors.data import ImageSplits
from hf_vipriors.hub.native_export import load_native
from hf_vipriors.methods import sskd_head
from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.training import DataArguments, StudentArguments, StudentTrainer, setup
from hf_vipriors.training.checkpoints import checkpoint_state
from hf_vipriors.training.resolve import Resolved

SMALLER = json.dumps({"channels": [4, 4, 8, 8], "stem_type": "deep", "stem_width": 4})
SHORT = ["--head_epochs", "1", "--max_steps", "4", "--logging_steps", "1", "--save_steps", "4"]
# What a run of each method leaves in its log and on its card.
PARTS = {
    "kd": {"classification", "kd"},
    "fitnet": {"classification", "hint"},
    "crd": {"classification", "contrast"},
    "overhaul": {"classification", "distillation"},
    "sskd": {"classification", "kd", "transfer", "similarity", "kept_transfer", "kept_similarity"},
}
ALL_PARTS = set().union(*PARTS.values())
PAPERS = {
    "kd": "1503.02531",
    "fitnet": "1412.6550",
    "crd": "1910.10699",
    "sskd": "2006.07114",
    "overhaul": "1904.01866",
}
SETTINGS = {
    "kd": set(),
    "fitnet": {"hint_weight"},
    "crd": {"contrast_weight", "contrast_dim", "contrast_temperature", "negatives", "memory_momentum"},
    "overhaul": {"feature_weight", "next_norm", "distil_from_epoch"},
    "sskd": {
        *("transfer_weight", "similarity_weight", "similarity_temperature", "keep_transfer", "keep_similarity"),
        *("head_epochs", "head_learning_rate"),
    },
}
OWN_SETTINGS = set().union(*SETTINGS.values())


def read(path):
    return json.loads(path.read_text())


def log_steps(folder):
    return [log for log in read(folder / "trainer_state.json")["log_history"] if "loss" in log]


def same_weights(first, second):
    first, second = (load_file(folder / "model.safetensors") for folder in (first, second))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def options(student_options):
    return [*student_options, "--backbone_args", SMALLER, *SHORT]


@pytest.fixture
def teacher(classifier_folder, tmp_path):
    """A copy of the classifier, to leave heads beside."""
    return shutil.copytree(classifier_folder, tmp_path / "teacher")


@pytest.mark.parametrize("method", list(PAPERS))
def test_every_method_gives_a_native_checkpoint(options, teacher, contents, card_settings, photos, tmp_path, method):
    before, folder = contents(teacher), tmp_path / "student"
    more = ["--method", method, "--teacher", str(teacher), "--distil_from_epoch", "0"]
    main([*options, *more, "--output_dir", str(folder)])
    after = {path: data for path, data in contents(teacher).items() if not path.name.startswith("sskd_head")}
    assert after == before, "the teacher stays what it was"
    steps = log_steps(folder)
    assert len(steps) == 4 and all(ALL_PARTS & step.keys() == PARTS[method] for step in steps)
    assert all(0 <= step[name] <= 1 for step in steps for name in PARTS[method] if name.startswith("kept"))
    assert read(folder / "metrics.json")["test"]["count"] == 12

    state = checkpoint_state(folder / "checkpoint-4")
    training_only = {
        "kd": set(),
        "fitnet": {"regressor"},
        "crd": {"student_embedding", "teacher_embedding", "student_memory", "teacher_memory", "normalisers"},
        "overhaul": {"connectors"},
        "sskd": {"head"},
    }[method]
    assert {name.split(".")[0] for name in state} == {"student", *training_only}
    saved = load_file(folder / "model.safetensors")
    assert all(torch.equal(tensor, state[f"student.backbone.{name}"]) for name, tensor in saved.items())

    image = photos / "test" / "red" / "0.png"
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    pixels = transform(Image.open(image).convert("RGB")).unsqueeze(0)
    ours = load_native(folder)(pixels).logits
    torch.testing.assert_close(model(pixels), ours, rtol=1e-5, atol=1e-5)
    predictions = pipeline("image-classification", model=str(folder))(str(image))
    assert predictions[0]["score"] == pytest.approx(ours.softmax(dim=1).max().item(), abs=1e-5)

    card, settings = (folder / "README.md").read_text(), card_settings(folder)
    assert f"arxiv.org/abs/{PAPERS[method]}" in card and "Came from: teacher" in card
    assert OWN_SETTINGS & settings.keys() == SETTINGS[method]
    assert ("kd_temperature" in settings) == (method in ("kd", "sskd"))
    assert ("mixup" in settings) == (method not in ("sskd", "crd"))


@pytest.mark.parametrize("method", ["fitnet", "crd", "overhaul"])
def test_answers_go_with_features(options, classifier_folder, card_settings, tmp_path, method):
    folder = tmp_path / "student"
    more = ["--method", method, "--teacher", str(classifier_folder), "--kd_weight", "0.5", "--distil_from_epoch", "0"]
    mixup = [] if method == "crd" else ["--mixup", "0.2"]
    main([*options, *more, *mixup, "--ema_decay", "0.9", "--output_dir", str(folder)])
    for step in log_steps(folder):
        assert ALL_PARTS & step.keys() == {*PARTS[method], "kd"} and step["kd"] > 0
    assert card_settings(folder)["kd_weight"] == "0.5" and "kd_temperature" in card_settings(folder)


@pytest.mark.parametrize("method", ["fitnet", "crd"])
def test_features_need_no_classifier(options, teacher_folder, tmp_path, method):
    more = ["--method", method, "--teacher", str(teacher_folder), "--save_strategy", "no"]
    main([*options, *more, "--output_dir", str(tmp_path / "student")])
    assert all(ALL_PARTS & step.keys() == PARTS[method] for step in log_steps(tmp_path / "student"))


@pytest.mark.parametrize("method", ["crd", "sskd"])
def test_resumed_run_ends_like_the_one_that_was_not_interrupted(options, teacher, tmp_path, method):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    more = ["--method", method, "--teacher", str(teacher), "--save_steps", "2", "--ema_decay", "0.9"]
    main([*options, *more, "--output_dir", str(whole)])
    shutil.copytree(whole, halves)
    shutil.rmtree(halves / "checkpoint-4")
    (halves / "model.safetensors").unlink()
    main([*options, *more, "--output_dir", str(halves), "--resume_from_checkpoint", "true"])
    assert same_weights(whole, halves)
    first, second = (checkpoint_state(folder / "checkpoint-4") for folder in (whole, halves))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert read(whole / "metrics.json")["test"] == read(halves / "metrics.json")["test"]


def test_only_the_best_ranked_of_the_teachers_mistakes_are_kept(options, teacher, tmp_path):
    kept = {}
    for share in ("0", "1"):
        more = ["--method", "sskd", "--teacher", str(teacher), "--keep_transfer", share, "--keep_similarity", share]
        main([*options, *more, "--save_strategy", "no", "--output_dir", str(tmp_path / share)])
        kept[share] = log_steps(tmp_path / share)
    for name in ("kept_transfer", "kept_similarity"):
        assert all(step[name] == 1 for step in kept["1"])
        assert any(0 < step[name] < 1 for step in kept["0"]), "this teacher is right about some images only"


# The self-supervision head of SSKD


@pytest.fixture(scope="module")
def first(options, classifier_folder, tmp_path_factory):
    """The first SSKD run of a teacher, which fits the head: ``first / "teacher"`` and ``first / "student"``."""
    root = tmp_path_factory.mktemp("sskd")
    shutil.copytree(classifier_folder, root / "teacher")
    command = [*options, "--method", "sskd", "--teacher", str(root / "teacher"), "--save_strategy", "no"]
    main([*command, "--output_dir", str(root / "student")])
    return root


@pytest.fixture
def fitted(first, tmp_path):
    """A copy of the first run's teacher, its head beside it."""
    return shutil.copytree(first / "teacher", tmp_path / "fitted")


@pytest.fixture
def sskd(options, capsys):
    """Run SSKD; gives back what was said of the head."""

    def run(teacher, folder, *more):
        capsys.readouterr()
        command = [*options, "--method", "sskd", "--teacher", str(teacher), "--save_strategy", "no", *more]
        main([*command, "--output_dir", str(folder)])
        return [" ".join(line.split()[-12:]) for line in capsys.readouterr().err.splitlines() if "head" in line]

    return run


def heads(folder):
    return sorted(folder.glob("*sskd_head*"))


def test_head_is_fitted_once_and_found_again(sskd, teacher, tmp_path):
    said = sskd(teacher, tmp_path / "first")
    assert any("epochs on the frozen backbone" in line for line in said) and len(heads(teacher)) == 1
    assert not heads(tmp_path / "first")
    written = heads(teacher)[0].read_bytes()
    said = sskd(teacher, tmp_path / "second")
    assert any("found in" in line for line in said) and not any("frozen backbone" in line for line in said)
    assert [file.read_bytes() for file in heads(teacher)] == [written]
    assert same_weights(tmp_path / "first", tmp_path / "second"), "one student, whether found or fitted"
    with safe_open(heads(teacher)[0], "pt") as file:
        assert str(tmp_path) not in json.dumps(file.metadata()), "no paths of this machine"
        assert file.get_tensor("0.weight").shape == (16, 16)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_head_is_fitted_in_the_precision_of_the_run(precision, monkeypatch):
    """A process has one precision: accelerate refuses a second."""
    begun = []

    class Recorded:
        def __init__(self, setup):
            self.args = setup.args

        def train(self):
            begun.append(self.args)

    monkeypatch.setattr("hf_vipriors.training.trainer.MethodTrainer", Recorded)
    args = StudentArguments(output_dir="student", method="sskd", use_cpu=True, **{precision: True})
    student = object.__new__(StudentTrainer)
    student.setup = setup.Setup(
        args, Resolved(args), DataArguments(), ImageSplits({}, []), {"train": None}, None, None
    )
    student.args = args
    student.train_beside(None, None, sskd_head.head_arguments(args, "teacher"))
    (beside,) = begun
    assert beside.output_dir == "teacher" and beside.num_train_epochs == args.head_epochs
    assert [name for name in ("bf16", "fp16") if getattr(beside, name)] == [precision]


def test_head_serves_other_students_of_the_same_teacher(sskd, fitted, tmp_path):
    said = sskd(fitted, tmp_path / "second", "--backbone", "resnet10t", "--transfer_weight", "1", "--max_steps", "1")
    assert any("found in" in line for line in said) and len(heads(fitted)) == 1


@pytest.mark.parametrize("change", [["--head_epochs", "2"], ["--seed", "7"], ["--images_per_class", "6"]])
def test_head_of_other_settings_is_another_one(sskd, fitted, tmp_path, change):
    sskd(fitted, tmp_path / "second", "--max_steps", "1", *change)
    assert len(heads(fitted)) == 2


def test_head_is_fitted_again_when_the_teacher_has_changed(sskd, fitted, tmp_path):
    state = load_file(fitted / "model.safetensors")
    state["conv1.0.weight"][0, 0, 0, 0] += 1e-3
    save_file(state, fitted / "model.safetensors", metadata={"format": "pt"})
    said = sskd(fitted, tmp_path / "second", "--max_steps", "1")
    assert any("frozen backbone" in line for line in said) and len(heads(fitted)) == 2


@pytest.mark.parametrize("damage", ["torn", "empty", "foreign", "misfit"])
def test_damaged_head_is_fitted_again(sskd, first, fitted, tmp_path, damage):
    (file,) = heads(fitted)
    with safe_open(file, "pt") as opened:
        settings = opened.metadata()
    if damage == "torn":
        file.write_bytes(file.read_bytes()[:-40])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "foreign":  # another head under this name
        zeros = {name: torch.zeros_like(tensor) for name, tensor in load_file(file).items()}
        save_file(zeros, file, metadata={"settings": "{}"})
    else:
        save_file({"0.weight": torch.zeros(2, 2)}, file, metadata=settings)
    said = sskd(fitted, tmp_path / "second")
    assert any("frozen backbone" in line for line in said) and len(heads(fitted)) == 1
    whole = load_file(heads(first / "teacher")[0])
    assert all(torch.equal(tensor, whole[name]) for name, tensor in load_file(file).items())
    assert same_weights(first / "student", tmp_path / "second")


def test_head_stays_with_the_run_where_the_teacher_cannot_be_written(sskd, teacher, contents, tmp_path, monkeypatch):
    before, folder, access = contents(teacher), tmp_path / "student", sskd_head.os.access
    monkeypatch.setattr(sskd_head.os, "access", lambda path, mode: path != teacher and access(path, mode))
    sskd(teacher, folder)
    assert len(heads(folder)) == 1 and contents(teacher) == before
    (folder / "notes.txt").write_text("mine")
    said = sskd(teacher, folder, "--overwrite_output_dir", "--head_epochs", "2", "--max_steps", "1")
    assert any("frozen backbone" in line for line in said) and len(heads(folder)) == 1, "the old run's head is gone"
    assert (folder / "notes.txt").read_text() == "mine"


def test_head_stays_with_the_run_where_the_teacher_is_no_folder(sskd, first, teacher, tmp_path, monkeypatch):
    load_native(teacher).save_pretrained(tmp_path / "download")
    commit = tmp_path / "cache" / "models--someone--classifier" / "snapshots" / ("0" * 40)
    shutil.copytree(tmp_path / "download", commit)
    (commit.parents[1] / "refs").mkdir()
    (commit.parents[1] / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    sskd("someone/classifier", tmp_path / "student")
    assert len(heads(tmp_path / "student")) == 1
    assert "Came from: someone/classifier" in (tmp_path / "student" / "README.md").read_text()
    assert same_weights(first / "student", tmp_path / "student"), "the same teacher, wherever it lies"


# Students of architectures that only this package knows


def test_student_of_our_own_architectures(student_options, classifier_folder, tmp_path, capsys):
    folder = tmp_path / "student"
    more = ["--method", "kd", "--teacher", str(classifier_folder), "--backbone", "cifar_resnet8"]
    main([*student_options, *more, "--backbone_args", "{}", "--max_steps", "2", "--output_dir", str(folder)])
    assert "must import hf_vipriors first" in " ".join(capsys.readouterr().err.split())
    card = (folder / "README.md").read_text()
    assert "import that first" in card and "no other code is needed" not in card
    assert card.count("\nimport hf_vipriors") == 2, "in the snippet of transformers and in timm's"
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    again = load_native(folder)
    assert isinstance(again, VipriorsForImageClassification) and again.config.image_mean[0] == pytest.approx(0.4914)
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(pixels), again(pixels).logits)


@pytest.mark.parametrize(("smoothing", "warned"), [(None, True), (0.1, True), (0.0, False)])
def test_a_teachers_label_smoothing_is_pointed_out(
    student_options, classifier_folder, tmp_path, capsys, smoothing, warned
):
    teacher = tmp_path / "teacher"
    shutil.copytree(classifier_folder, teacher)
    run = read(teacher / "run.json")
    assert run["arguments"]["label_smoothing"] is None
    assert run["resolved"]["label_smoothing"] == {"value": 0.1, "from": "supervised"}
    if smoothing is not None:  # as of a run where it was given
        run["arguments"]["label_smoothing"] = smoothing
        del run["resolved"]["label_smoothing"]
    (teacher / "run.json").write_text(json.dumps(run))
    capsys.readouterr()
    options = [
        "--method",
        "kd",
        "--teacher",
        str(teacher),
        "--max_steps",
        "1",
        "--output_dir",
        str(tmp_path / "student"),
    ]
    main([*student_options, *options])
    assert ("trained with label smoothing 0.1" in capsys.readouterr().err) == warned


def test_fsdp_and_the_head_of_sskd_do_not_go_together(options, teacher, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(setup, "is_sharded", lambda args: True)
    folder = tmp_path / "student"
    with pytest.raises(SystemExit) as stop:
        main([*options, "--method", "sskd", "--teacher", str(teacher), "--output_dir", str(folder)])
    assert stop.value.code == 2 and "run it without FSDP" in capsys.readouterr().err
    assert not folder.exists()
