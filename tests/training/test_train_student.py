import json
import signal

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import pipeline

from hf_vipriors.cli.student import main
from hf_vipriors.evaluation.classification import score
from hf_vipriors.evaluation.predictions import read_predictions
from hf_vipriors.hub.native_export import load_native
from hf_vipriors.training.checkpoints import checkpoint_state
from hf_vipriors.training.signals import Interrupted


def scores(folder):
    return json.loads((folder / "metrics.json").read_text())["test"]


def test_overhaul_from_a_teacher_gives_a_native_checkpoint(student_options, teacher_folder, photos, tmp_path):
    folder = tmp_path / "student"
    more = ["--teacher", str(teacher_folder), "--distil_from_epoch", "1", "--feature_weight", "1e-3"]
    tricks = ["--mixup", "0.2", "--cutmix", "0.2", "--ema_decay", "0.9", "--auto_augment", "cifar10"]
    main([*student_options, *more, *tricks, "--class_weights", "balanced", "--output_dir", str(folder)])
    assert 0 <= scores(folder)["top1"] <= 1 and scores(folder)["count"] == 12
    logs = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    assert any("distillation" in log for log in logs) and any("eval_top1" in log for log in logs)

    image = photos / "test" / "red" / "0.png"
    predictions = pipeline("image-classification", model=str(folder))(str(image))
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    pixels = transform(Image.open(image).convert("RGB")).unsqueeze(0)
    ours = load_native(folder)(pixels).logits
    torch.testing.assert_close(model(pixels), ours, rtol=1e-5, atol=1e-5)
    best = ours.softmax(dim=1)[0].max().item()
    assert predictions[0]["score"] == pytest.approx(best, abs=1e-5)
    assert {a["label"] for a in predictions} == {"red", "green", "blue"}
    assert "pipeline_tag: image-classification" in (folder / "README.md").read_text()


def test_supervised_learns_what_can_be_learnt(student_options, tmp_path):
    folder = tmp_path / "student"
    options = [
        "--method",
        "supervised",
        "--num_train_epochs",
        "20",
        "--learning_rate",
        "0.05",
        "--save_strategy",
        "no",
    ]
    main([*student_options, *options, "--output_dir", str(folder)])
    assert scores(folder)["top1"] >= 0.9


def test_checkpoint_has_connectors_and_no_teacher(student_options, teacher_folder, tmp_path):
    folder = tmp_path / "student"
    main([*student_options, "--teacher", str(teacher_folder), "--output_dir", str(folder)])
    state = checkpoint_state(next(folder.glob("checkpoint-*")))
    assert any(name.startswith("connectors.") for name in state)
    assert {name.split(".")[0] for name in state} == {"student", "connectors"}
    assert not any("connector" in name for name in load_file(folder / "model.safetensors"))


@pytest.mark.parametrize("method", ["supervised", "overhaul"])
def test_resumed_run_ends_like_the_one_that_was_not_interrupted(student_options, teacher_folder, tmp_path, method):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    options = [*student_options, "--method", method, "--save_steps", "3", "--save_total_limit", "20"]
    options += ["--mixup", "0.3", "--ema_decay", "0.9", "--teacher", str(teacher_folder), "--distil_from_epoch", "0"]
    main([*options, "--output_dir", str(whole)])
    main([*options, "--output_dir", str(halves)])
    (halves / "model.safetensors").unlink()
    main([*options, "--output_dir", str(halves), "--resume_from_checkpoint", str(halves / "checkpoint-3")])
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, halves))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_network_than_the_teachers(student_options, teacher_folder, tmp_path):
    folder = tmp_path / "student"
    options = [*student_options, "--backbone", "mobilenetv3_small_050", "--backbone_args", "{}", "--max_steps", "3"]
    main([*options, "--teacher", str(teacher_folder), "--distil_from_epoch", "0", "--output_dir", str(folder)])
    assert json.loads((folder / "config.json").read_text())["architecture"] == "mobilenetv3_small_050"


def test_milestones_divide_the_learning_rate(student_options, tmp_path):
    folder = tmp_path / "student"
    options = ["--method", "supervised", "--lr_milestones", "1", "--warmup_steps", "0", "--learning_rate", "0.1"]
    main([*student_options, *options, "--logging_steps", "1", "--output_dir", str(folder)])
    logs = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    rates = [log["learning_rate"] for log in logs if "learning_rate" in log]
    assert rates[0] == pytest.approx(0.1) and rates[-1] == pytest.approx(0.01)


def test_without_a_test_split_log_and_card_say_validation(student_options, photos, tmp_path):
    import shutil

    shutil.copytree(photos / "train", tmp_path / "photos")
    folder = tmp_path / "student"
    options = [*student_options, "--data_dir", str(tmp_path / "photos"), "--method", "supervised", "--max_steps", "2"]
    main([*options, "--output_dir", str(folder)])
    card = (folder / "README.md").read_text()
    assert "No independent test split" in card and "split: validation" in card
    assert json.loads((folder / "metrics.json").read_text())["test_is_validation"]


def test_last_batch_of_one_image_is_left_out(student_options, tmp_path):
    options = ["--method", "supervised", "--images_per_class", "7", "--per_device_train_batch_size", "20"]
    main([*student_options, *options, "--output_dir", str(tmp_path / "student")])
    assert scores(tmp_path / "student")["count"] == 12


def test_smaller_training_set_by_protocol(student_options, tmp_path, caplog):
    folder = tmp_path / "student"
    options = ["--method", "supervised", "--images_per_class", "4", "--subset_seed", "3", "--max_steps", "2"]
    main([*student_options, *options, "--output_dir", str(folder)])
    assert "train: 12 images" in (folder / "README.md").read_text()


def test_answers_lie_beside_the_student_and_give_its_score(student_options, tmp_path):
    folder = tmp_path / "student"
    main([*student_options, "--method", "supervised", "--output_dir", str(folder)])
    predictions, test = read_predictions(folder), scores(folder)
    names = ["blue", "green", "red"]
    again = score(predictions.values, predictions.labels, names)
    assert again.top1 == test["top1"] and again.confusion == test["confusion"] and again.per_class == test["per_class"]
    assert test["calibration_error"] == pytest.approx(again.calibration_error, abs=0.05)
    assert predictions.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4, "in the store's order"


def test_a_new_run_removes_the_old_answers_at_once(student_options, tmp_path, monkeypatch):
    folder = tmp_path / "student"
    options = [*student_options, "--method", "supervised", "--max_steps", "2", "--output_dir", str(folder)]
    main(options)

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_vipriors.training.StudentTrainer.train", killed)
    with pytest.raises(SystemExit, match="130"):
        main([*options, "--overwrite_output_dir"])
    assert read_predictions(folder) is None and not (folder / "metrics.json").exists()


def test_ctrl_c_at_the_border_of_a_step_says_what_was_kept(student_options, tmp_path, monkeypatch, capsys):
    def stopped(*_, **__):
        raise Interrupted(signal.SIGINT, "stopped by SIGINT at step 3: saved in checkpoint-3", goes_on=True)

    monkeypatch.setattr("hf_vipriors.training.StudentTrainer.train", stopped)
    with pytest.raises(SystemExit, match="130"):
        main([*student_options, "--method", "supervised", "--output_dir", str(tmp_path / "student")])
    assert "stopped by SIGINT at step 3: saved in checkpoint-3; go on with:" in capsys.readouterr().err


def test_corrupted_test_images_are_scored_where_it_was_asked_for(student_options, tmp_path):
    folder = tmp_path / "student"
    options = [*student_options, "--method", "supervised", "--num_train_epochs", "12", "--learning_rate", "0.05"]
    main([*options, "--corruptions", "--output_dir", str(folder)])
    metrics = json.loads((folder / "metrics.json").read_text())
    shaken = metrics["corrupted"]
    assert shaken["count"] == 12 and shaken["clean"] == metrics["test"]["top1"]
    assert len(shaken["per_corruption"]) == 11 and 0 < shaken["top1"] <= 1


def test_a_hard_train_split_leaves_test_alone(student_options, tmp_path):
    folder = tmp_path / "student"
    hard = ["--imbalance", "4", "--train_fraction", "0.5", "--label_noise", "0.25", "--noise_kind", "asymmetric"]
    main([*student_options, "--method", "supervised", *hard, "--max_steps", "2", "--output_dir", str(folder)])
    assert scores(folder)["count"] == 12 and sum(map(sum, scores(folder)["confusion"])) == 12
    made = json.loads((folder / "run.json").read_text())["data"]
    assert (made["imbalance"], made["label_noise"], made["noise_kind"]) == (4, 0.25, "asymmetric")
    assert "train: 11 images" in (folder / "README.md").read_text()
