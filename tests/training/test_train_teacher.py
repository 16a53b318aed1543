import json
import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from hf_vipriors.cli.teacher import main
from hf_vipriors.models import VipriorsModel
from hf_vipriors.training.checkpoints import checkpoint_state


def history(folder):
    return json.loads((folder / "trainer_state.json").read_text())["log_history"]


@pytest.mark.parametrize("options", [["--method", "moco"], ["--method", "simclr"], ["--optim", "sgd"]])
def test_trains_saves_and_tells(teacher_options, tmp_path, options):
    folder = tmp_path / "teacher"
    main([*teacher_options, *options, "--output_dir", str(folder)])
    teacher = VipriorsModel.from_pretrained(folder)
    assert isinstance(AutoModel.from_pretrained(folder), VipriorsModel)
    assert teacher(torch.randn(2, 3, 32, 32)).projection.shape == (2, 8)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["images"] == 46 and 0 <= metrics["knn"]["top1"] <= 1 and metrics["linear"]["count"] == 12
    logs = history(folder)
    steps = [log for log in logs if "loss" in log]
    assert {"contrastive", "positive_cosine", "learning_rate", "images_per_second"} <= steps[0].keys()
    assert any("eval_knn_top1" in log for log in logs)
    batch, length = 8, math.floor(46 / 2) // 8 * 8
    negatives = length if "simclr" not in options else 2 * batch - 2
    margin = 0.0 if "simclr" in options else 0.4
    assert metrics["chance_level"] == pytest.approx(math.log(1 + negatives * math.exp(margin / 0.2)))
    assert "image-feature-extraction" in (folder / "README.md").read_text()
    assert not list(folder.rglob("*.bin")) and not list(folder.rglob("training_args.bin"))


def test_checkpoint_holds_queue_and_momentum_encoder(teacher_folder):
    newest = sorted(teacher_folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))[-1]
    state = checkpoint_state(newest)
    assert state["queue.keys"].shape == (16, 8) and (state["queue.index"] >= 0).all()
    assert any(name.startswith("momentum_model.") for name in state)
    assert not any(name.startswith(("queue", "momentum")) for name in load_file(teacher_folder / "model.safetensors"))


def test_resumed_run_ends_like_the_one_that_was_not_interrupted(teacher_options, tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    options = [*teacher_options, "--save_steps", "2", "--save_total_limit", "20", "--eval_steps", "4"]
    main([*options, "--output_dir", str(whole)])
    main([*options, "--output_dir", str(halves)])
    # As if killed after step 4: what came later is gone.
    for path in halves.glob("checkpoint-*"):
        if int(path.name.split("-")[1]) > 4:
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
    (halves / "model.safetensors").unlink()
    main([*options, "--output_dir", str(halves), "--resume_from_checkpoint", "true"])
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, halves))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_gradient_accumulation_and_bf16_run(teacher_options, tmp_path):
    folder = tmp_path / "teacher"
    more = ["--gradient_accumulation_steps", "2", "--bf16", "--encoder_momentum_end", "1.0"]
    main([*teacher_options, *more, "--output_dir", str(folder)])
    assert all(math.isfinite(log["loss"]) for log in history(folder) if "loss" in log)


def test_learns_without_any_label(teacher_options, photos, tmp_path):
    folder = tmp_path / "teacher"
    images = tmp_path / "images" / "unlabelled"
    images.mkdir(parents=True)
    for source in (photos / "unlabelled").iterdir():
        (images / source.name).write_bytes(source.read_bytes())
    options = [*teacher_options, "--data_dir", str(images.parent), "--per_device_train_batch_size", "4"]
    main([*options, "--output_dir", str(folder)])
    assert VipriorsModel.from_pretrained(folder).config.projector_dim == 8
    assert "knn" not in json.loads((folder / "metrics.json").read_text())
    # What collapses must show without labels too.
    measured = [entry for entry in history(folder) if "eval_effective_rank" in entry]
    assert measured and all(entry["eval_effective_rank"] >= 1 and "eval_knn_top1" not in entry for entry in measured)
