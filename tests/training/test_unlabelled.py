"""Students that learn from images without labels too: fixmatch, and distillation on them."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from hf_vipriors.cli.student import main
from hf_vipriors.data import ImageStore
from hf_vipriors.errors import InputError
from hf_vipriors.evaluation.features import NotFinite, Outputs
from hf_vipriors.methods import FixMatch
from hf_vipriors.methods.label_propagation import (
    fit_to_propagated_labels,
    linear_classifier,
    propagated_labels,
)
from hf_vipriors.models import VipriorsConfig
from hf_vipriors.training import StudentArguments, StudentTrainer
from hf_vipriors.training.checkpoints import checkpoint_state

FIXMATCH = ["--method", "fixmatch", "--ema_decay", "0.9", "--unlabelled_ratio", "2", "--confidence", "0.2"]


@pytest.fixture
def teacher(classifier_folder):
    return str(classifier_folder)


def history(folder, name):
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry[name] for entry in log if name in entry]


def test_fixmatch_from_images_to_a_native_student(student_options, teacher_folder, card_settings, tmp_path, capsys):
    folder = tmp_path / "student"
    main([*student_options, *FIXMATCH, "--teacher", str(teacher_folder), "--output_dir", str(folder)])
    assert "train: 46 images" in capsys.readouterr().err, "36 labelled and 10 without"
    assert max(history(folder, "consistency")) > 0 and 0 < max(history(folder, "confident")) <= 1
    assert json.loads((folder / "trainer_state.json").read_text())["max_steps"] == 12, "epochs of the 36 labelled"
    settings = card_settings(folder)
    assert settings["unlabelled_ratio"] == "2" and settings["confidence"] == "0.2"
    assert "2001.07685" in (folder / "README.md").read_text()
    state = checkpoint_state(folder / "checkpoint-12")
    kept = load_file(folder / "model.safetensors")
    name = next(name for name in kept if name.endswith("conv1.0.weight"))
    plain = name.removeprefix("timm_model.")
    assert torch.equal(kept[name], state[f"ema.module.backbone.{plain}"])
    assert "1904.04717" in (folder / "README.md").read_text()


@pytest.mark.parametrize("asked", [True, False])
def test_the_classifier_is_fitted_at_the_end_where_asked(student_options, tmp_path, asked):
    """To labels that travelled over the features that the saved model gives; its backbone stays as it was trained."""
    folder = tmp_path / "student"
    quick = ["--max_steps", "4", "--eval_strategy", "no", "--propagate_labels", str(asked)]
    main([*student_options, *FIXMATCH, *quick, "--output_dir", str(folder)])
    metrics = json.loads((folder / "metrics.json").read_text())
    kept, trained = load_file(folder / "model.safetensors"), checkpoint_state(folder / "checkpoint-4")
    changed = {
        name for name, tensor in kept.items()
        if not torch.equal(tensor, trained[f"ema.module.backbone.{name.removeprefix('timm_model.')}"])
    }  # fmt: skip
    if not asked:
        assert not changed and "propagation" not in metrics
        return
    assert metrics["propagation"]["images"] == 10 and metrics["propagation"]["kept"]
    assert {name.rsplit(".", 1)[1] for name in changed} == {"weight", "bias"} and len(changed) == 2
    assert all(kept[name].ndim == tensors for name, tensors in zip(sorted(changed), (1, 2), strict=True))


@pytest.mark.parametrize("method", ["supervised", "kd", "sskd"])
def test_students_of_labels_alone_end_with_it_where_asked(student_options, teacher, tmp_path, card_settings, method):
    """The training is that without it, step for step: images without labels wait for its end."""
    steps = ["--method", method, "--max_steps", "4", "--eval_strategy", "no"]
    shutil.copytree(teacher, tmp_path / "teacher")  # sskd leaves a head there
    steps += [] if method == "supervised" else ["--teacher", str(tmp_path / "teacher")]
    steps += ["--head_epochs", "1"] if method == "sskd" else []
    for asked in ("true", "false"):
        main([*student_options, *steps, "--propagate_labels", asked, "--output_dir", str(tmp_path / asked)])
    ended, plain = (checkpoint_state(tmp_path / asked / "checkpoint-4") for asked in ("true", "false"))
    assert all(torch.equal(ended[name], plain[name]) for name in plain)
    for asked, pool in (("true", 10), ("false", 0)):
        folder = tmp_path / asked
        entry = json.loads((folder / "metrics.json").read_text()).get("propagation", {"images": 0})
        assert entry["images"] == pool == len(load_file(folder / "trained_images.safetensors")["unlabelled"])
        assert card_settings(folder).get("propagate_labels") == ("True" if pool else None)
        assert ("1904.04717" in (folder / "README.md").read_text()) == bool(pool)


def images(count, side=32):
    """Each class a gray of its own."""
    labels = torch.arange(count) % 4
    noise = torch.randint(0, 20, (count, 1, side, side), generator=torch.Generator().manual_seed(0))
    return ImageStore((noise + 60 * labels[:, None, None, None]).to(torch.uint8), labels)


def trainer(tmp_path, **options):
    config = VipriorsConfig.for_backbone("test_resnet", image_size=32, class_names=["a", "b", "c", "d"])
    shared = {"use_cpu": True, "disable_tqdm": True, "report_to": "none", "max_steps": 1, "method": "supervised"}
    args = StudentArguments(str(tmp_path / "student"), **shared)
    return StudentTrainer(config, args, train_dataset=images(8), class_names=["a", "b", "c", "d"], **options)


def test_a_classifier_stays_where_validation_shows_it_better(tmp_path):
    student = trainer(tmp_path, eval_dataset=images(80))
    layer, found = student.classifier_layer(), student.training_features(0)
    good, bad = (linear_classifier(found.values, found.labels.roll(shift), 4) for shift in (0, 1))
    first = student.replace_classifier(layer, *good)
    assert first["kept"] and first["validation_after"] > 0.9 > first["validation_before"]
    fitted = [layer.weight.clone(), layer.bias.clone()]
    second = student.replace_classifier(layer, *bad)
    assert not second["kept"] and second["validation_after"] < 0.1 and second["validation_before"] > 0.9
    assert torch.equal(layer.weight, fitted[0]) and torch.equal(layer.bias, fitted[1])


def test_without_images_to_validate_on_the_new_classifier_is_kept(tmp_path):
    student = trainer(tmp_path)
    found = student.training_features(0)
    assert student.training_sample(8).geometry.interpolation == "bilinear", "as its views are resized"
    assert found.labels.tolist() == [0, 1, 2, 3] * 2 and len(found.values) == 8
    weight, bias = linear_classifier(found.values, found.labels, 4)
    layer = student.classifier_layer()
    assert student.replace_classifier(layer, weight, bias) == {"kept": True}
    assert torch.equal(student.model.deployable().backbone.get_classifier().weight, weight)


@pytest.mark.parametrize(("sureness", "classes"), [(0.1, None), (100.0, None), (0.1, torch.tensor([0.4, 1.6]))])
def test_the_labels_together_count_what_the_images_without_do_and_none_is_surer(sureness, classes):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(42, 8, generator=generator) + torch.arange(2).repeat(21)[:, None]
    known = torch.full((42,), -1)
    known[:2] = torch.arange(2)
    layer, taken = torch.nn.Linear(8, 2), []
    with torch.no_grad():
        layer.weight.copy_(sureness * torch.randn(2, 8, generator=generator))
    trainer = SimpleNamespace(
        classifier_layer=lambda: layer,
        training_features=lambda most: Outputs(values, known),
        replace_classifier=lambda layer, *classifier: taken.extend(classifier) or {"kept": True},
    )
    assert fit_to_propagated_labels(trainer, 2, 40, classes) == {"propagation": {"images": 40, "kept": True}}
    labels, weights = propagated_labels(values, known), torch.tensor([20.0] * 2 + [1.0] * 40)
    weight, bias = linear_classifier(values, labels, 2, weights=weights * (1 if classes is None else classes[labels]))
    factor = float(taken[1][0] / bias[0])
    torch.testing.assert_close(taken, [factor * weight, factor * bias])
    sure, trained = (
        (values[2:] @ each[0].T + each[1]).softmax(1).amax(1).mean().item()
        for each in (taken, (layer.weight, layer.bias))
    )
    if sureness < 1:
        assert sure == pytest.approx(trained, abs=1e-4) and factor < 1
    else:
        assert factor == pytest.approx(1) and sure < trained, "no logit is ever blown up"


@pytest.mark.parametrize("kind", ["sharded", "convolution", "no bias", "two heads"])
def test_only_a_linear_layer_that_gives_the_logits_is_fitted(tmp_path, monkeypatch, caplog, kind):
    student = trainer(tmp_path)
    backbone = student.model.deployable().backbone
    if kind == "sharded":
        student.is_fsdp_enabled = True
        monkeypatch.setattr(type(student), "evaluated", lambda self: self.model.evaluated())
    elif kind in ("convolution", "no bias"):
        layer = torch.nn.Conv2d(4, 2, 1) if kind == "convolution" else torch.nn.Linear(4, 2, bias=False)
        monkeypatch.setattr(type(backbone), "get_classifier", lambda self: layer)
    else:  # VOLO adds what a second one says of other features
        forward = type(backbone).forward
        monkeypatch.setattr(type(backbone), "forward", lambda self, images: forward(self, images) + images.mean())
    assert student.classifier_layer() is None
    assert fit_to_propagated_labels(student, 4, 10) == {}
    assert "--propagate_labels is left out" in caplog.text


def test_what_is_fitted_at_the_end_sees_the_model_that_is_saved(tmp_path, monkeypatch):
    """Each process has statistics of its own until they are shared; and what is not finite is a training diverged."""
    student, called = trainer(tmp_path), []
    monkeypatch.setattr(student, "share_buffers", lambda: called.append("shared"))
    monkeypatch.setattr(student.model, "finish", lambda trainer: called.append("fitted") or {"propagation": {}})
    assert student.finish() == {"propagation": {}} and called == ["shared", "fitted"]

    def broken(trainer):
        raise NotFinite("resnet18 gives numbers that are not finite")

    monkeypatch.setattr(student.model, "finish", broken)
    with pytest.raises(InputError, match="has diverged; lower learning_rate"):
        student.train()


def test_no_label_travels_where_none_can(caplog):
    """Features of which no two look alike: nothing is fitted, and a line says so."""
    values = torch.cat([torch.eye(3), -torch.eye(3)])[[0, 3]]
    trainer = SimpleNamespace(
        classifier_layer=lambda: torch.nn.Linear(3, 2),
        training_features=lambda most: Outputs(values, torch.tensor([0, -1])),
    )
    with caplog.at_level("INFO"):
        assert fit_to_propagated_labels(trainer, 2, 10) == {}
    assert "no label travelled" in caplog.text


@pytest.mark.parametrize(
    "threshold",
    [
        [],
        ["--threshold", "relative", "--strong_augmentation", "randaugment"],
        ["--threshold", "soft"],
        ["--curriculum"],
    ],
)
def test_a_resumed_run_goes_on_with_the_same_images_and_averages(student_options, tmp_path, threshold):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    fixmatch = FIXMATCH[: -2 if "soft" in threshold else None]  # without --confidence
    options = [*student_options, *fixmatch, *threshold, "--save_steps", "4", "--eval_strategy", "no"]
    main([*options, "--output_dir", str(whole)])
    (tmp_path / "cut").mkdir()
    main([*options, "--output_dir", str(cut), "--resume_from_checkpoint", str(whole / "checkpoint-8")])
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_ends_a_run_may_be_another_once_it_is_resumed(student_options, tmp_path, capsys):
    options = [*student_options, *FIXMATCH, "--save_steps", "4", "--eval_strategy", "no", "--max_steps", "8"]
    main([*options, "--propagate_labels", "false", "--output_dir", str(tmp_path / "whole")])
    resumed = [
        "--resume_from_checkpoint",
        str(tmp_path / "whole" / "checkpoint-8"),
        "--output_dir",
        str(tmp_path / "on"),
    ]
    main([*options, *resumed])
    assert "with --propagate_labels false -> true" in " ".join(capsys.readouterr().err.split())
    assert json.loads((tmp_path / "on" / "metrics.json").read_text())["propagation"]["images"] == 10


def test_a_curriculum_makes_no_views_of_the_images_that_a_step_leaves_out(student_options, tmp_path, monkeypatch):
    seen, forward = [], FixMatch.forward

    def spy(self, views, labels, index, labelled):
        seen.append((len(views[0]), len(views[1]), len(labels), len(index), labelled))
        return forward(self, views, labels, index, labelled)

    monkeypatch.setattr(FixMatch, "forward", spy)
    rare = ["--eval_strategy", "no", "--save_strategy", "no"]
    main([*student_options, *FIXMATCH, "--curriculum", *rare, "--output_dir", str(tmp_path / "student")])
    assert all(row[:4] == (row[0],) * 4 for row in seen)
    without = [rows - labelled for rows, *_, labelled in seen]
    assert without[0] == 1 and without == sorted(without) and without[-1] > 2


@pytest.mark.parametrize("method", ["kd", "overhaul", "fitnet"])
def test_a_teacher_is_distilled_on_images_without_labels_too(student_options, teacher, tmp_path, method):
    folder = tmp_path / "student"
    options = ["--method", method, "--teacher", teacher, "--unlabelled_ratio", "1", "--save_strategy", "no"]
    main([*student_options, *options, "--distil_from_epoch", "0", "--output_dir", str(folder)])
    part = {"kd": "kd", "overhaul": "distillation", "fitnet": "hint"}[method]
    assert min(history(folder, part)) > 0 and min(history(folder, "classification")) > 0


def test_several_teachers(student_options, teacher, tmp_path):
    folder = tmp_path / "student"
    options = ["--method", "kd", "--teacher", teacher, "--more_teachers", teacher, teacher, "--max_steps", "2"]
    main([*student_options, *options, "--save_strategy", "no", "--output_dir", str(folder)])
    card = (folder / "README.md").read_text()
    assert str(teacher) not in card, "names, not where they lie"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([*FIXMATCH, "--unlabelled", "none"], "no images without labels"),
        (["--method", "fixmatch", "--ema_decay", "0"], "--ema_decay"),
        (["--method", "supervised", "--propagate_labels", "true", "--unlabelled", "none"], "no images without labels"),
        ([*FIXMATCH, "--unlabelled_ratio", "0"], "--unlabelled_ratio 1 or more"),
        (["--method", "supervised", "--unlabelled_ratio", "1"], "no use for images without labels"),
        (["--method", "supervised", "--more_teachers", "a"], "--method kd"),
        ([*FIXMATCH, "--confidence", "1.5"], "confidence"),
        ([*FIXMATCH, "--threshold", "sofft"], "threshold"),
        ([*FIXMATCH, "--strong_augmentation", "autoaugment"], "randaugment"),
        ([*FIXMATCH, "--threshold", "soft"], "--confidence has no effect"),
        ([*FIXMATCH, "--layer_decay", "0"], "layer_decay"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(student_options, tmp_path, capsys, options, said):
    folder = tmp_path / "student"
    with pytest.raises(SystemExit) as stop:
        main([*student_options, *options, "--output_dir", str(folder)])
    assert stop.value.code == 2 and not folder.exists()
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1 and said in lines[0]
