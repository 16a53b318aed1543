"""SEED and DoGo from the command line: what they leave behind, and what can be done with it."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from hf_vipriors.cli import student as train_student
from hf_vipriors.cli import teacher as train_teacher
from hf_vipriors.cli.pretrain import main
from hf_vipriors.hub.native_export import export_native, load_native
from hf_vipriors.hub.teachers import load_teacher
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from hf_vipriors.training import setup
from hf_vipriors.training.checkpoints import checkpoint_state

SMALLER = json.dumps({"channels": [4, 4, 8, 8], "stem_type": "deep", "stem_width": 4})
KEPT = ["--save_steps", "2", "--save_total_limit", "20", "--max_steps", "6", "--eval_steps", "0.5"]
# A process that cannot import hf_vipriors. Arguments: pixels, folders; prints the features both libraries give.
STRANGER = """
import json, sys
sys.modules["hf_vipriors"] = None
import timm, torch
from transformers import AutoModel
pixels, found = torch.load(sys.argv[1], weights_only=True), []
with torch.no_grad():
    for folder in sys.argv[2:]:
        model = AutoModel.from_pretrained(folder).eval()
        plain = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
        found.append([type(model).__name__, model(pixels).pooler_output.tolist(), plain(pixels).tolist()])
print(json.dumps(found))
"""


def read(path):
    return json.loads(path.read_text())


def history(folder):
    return read(folder / "trainer_state.json")["log_history"]


def channels(folder):
    return VipriorsModel.from_pretrained(folder).config.backbone_args["channels"]


def checkpoint(folder, step):
    return checkpoint_state(folder / f"checkpoint-{step}")


@pytest.fixture(scope="module")
def options(common):
    return [*common, "--per_device_train_batch_size", "8", "--learning_rate", "2e-3"]


@pytest.fixture(scope="module")
def seeded(options, teacher_folder, tmp_path_factory):
    """SEED with two full views and two patches, a smaller student, every checkpoint kept."""
    folder = tmp_path_factory.mktemp("seed") / "student"
    more = ["--method", "seed", "--teacher", str(teacher_folder), "--backbone_args", SMALLER, "--patches", "2"]
    main([*options, *more, *KEPT, "--output_dir", str(folder)])
    return folder


@pytest.fixture(scope="module")
def peers(options, tmp_path_factory):
    """DoGo with SimCLR inside; the peer is the smaller of the two."""
    folder = tmp_path_factory.mktemp("dogo") / "peers"
    more = ["--method", "dogo", "--projector_dim", "8", "--peer_backbone", "resnet18", "--peer_backbone_args", SMALLER]
    main([*options, *more, *KEPT, "--peer_learning_rate", "1e-3", "--output_dir", str(folder)])
    return folder


def test_seed_saves_a_student_like_a_teacher(seeded):
    student = VipriorsModel.from_pretrained(seeded)
    assert isinstance(AutoModel.from_pretrained(seeded), VipriorsModel)
    assert student.config.projector_dim == 8, "as wide as the teacher's embedding"
    assert channels(seeded) == [4, 4, 8, 8] and student.config.image_size == 32
    metrics = read(seeded / "metrics.json")
    assert metrics["images"] == 46 and metrics["linear"]["count"] == 12 and "peer" not in metrics
    logs = history(seeded)
    steps = [log for log in logs if "loss" in log]
    assert {"similarity", "teacher_cosine", "images_per_second"} <= steps[0].keys()
    assert steps[-1]["teacher_cosine"] > steps[0]["teacher_cosine"], "it follows its teacher"
    assert any("eval_knn_top1" in log for log in logs)
    assert not list(seeded.rglob("*.bin"))


def test_seed_keeps_queues_and_no_teacher_in_its_checkpoints(seeded):
    state = checkpoint(seeded, 6)
    assert {name.split(".")[0] for name in state} == {"student", "queue", "patch_queue"}
    assert state["queue.keys"].shape == state["patch_queue.keys"].shape == (16, 8)
    assert (state["queue.index"] >= 0).all() and (state["patch_queue.index"] >= 0).all()
    assert {name.split(".")[0] for name in load_file(seeded / "model.safetensors")} == {"backbone", "projector"}


def vit_teacher(folder):
    config = VipriorsConfig.for_backbone(
        "vit_tiny_patch16_224",
        image_size=32,
        backbone_args={"depth": 1, "embed_dim": 32, "num_heads": 2, "patch_size": 8},
        projector_dim=12,
        projector_batch_norm=True,
    )
    assert config.image_mean == [0.5, 0.5, 0.5], "other statistics than the student's"
    VipriorsModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("teacher", "patches", "width"),
    [("projector", 0, 8), ("classifier", 0, 16), ("classifier", 1, 16), ("vit", 0, 12), ("vit", 1, 12)],
)
def test_seed_from_any_teacher(
    options, teacher_folder, classifier_folder, contents, card_settings, tmp_path, teacher, patches, width
):
    known = {"projector": teacher_folder, "classifier": classifier_folder}
    source = known[teacher] if teacher in known else vit_teacher(tmp_path / "vit")
    before, folder = contents(source), tmp_path / "student"
    more = ["--teacher", str(source), "--backbone_args", SMALLER, "--patches", str(patches), "--save_steps", "1.0"]
    main([*options, *more, "--max_steps", "3", "--output_dir", str(folder)])
    student = VipriorsModel.from_pretrained(folder)
    assert student.projector is not None and student.config.projector_dim == width
    assert student.config.projector_batch_norm == (teacher == "vit"), "a projector like the teacher's"
    assert contents(source) == before
    names = {name.split(".")[0] for name in checkpoint(folder, 3)}
    assert names == ({"student", "queue", "patch_queue"} if patches else {"student", "queue"})
    assert ("patch_scale" in card_settings(folder)) == bool(patches), "a card names only what was read"
    assert f"Came from: {source.name}" in (folder / "README.md").read_text()


def test_dogo_exports_the_smaller_peer_and_keeps_the_other(peers):
    last = checkpoint(peers, 6)
    for folder, prefix, wanted in (
        (peers, "peer_b.model.", [4, 4, 8, 8]),
        (peers / "peer", "peer_a.model.", [8, 8, 16, 16]),
    ):
        assert channels(folder) == wanted
        saved = load_file(folder / "model.safetensors")
        assert all(torch.equal(tensor, last[prefix + name]) for name, tensor in saved.items())
        assert read(folder / "metrics.json")["knn"]["count"] == 12
        assert "arxiv.org/abs/2104.09866" in (folder / "README.md").read_text()
    metrics = read(peers / "metrics.json")
    assert metrics["peer"] == read(peers / "peer" / "metrics.json") and "peer" not in metrics["peer"]
    steps = [log for log in history(peers) if "loss" in log]
    assert {"contrastive", "peer_contrastive", "mutual", "peer_mutual", "positive_cosine"} <= steps[0].keys()
    assert any({"eval_knn_top1", "eval_peer_knn_top1"} <= log.keys() for log in history(peers))
    assert not (peers / "peer" / "native").exists()
    titles = [
        (folder / "README.md").read_text().split("\n# ")[1].splitlines()[0] for folder in (peers, peers / "peer")
    ]
    assert titles == ["peers", "peers-peer"]


def test_dogo_with_moco_inside_and_the_first_peer_smaller(options, tmp_path, card_settings):
    folder = tmp_path / "peers"
    more = [
        "--method",
        "dogo",
        "--contrast",
        "moco",
        "--projector_dim",
        "8",
        "--peer_backbone",
        "mobilenetv3_small_050",
    ]
    main([*options, *more, "--max_steps", "2", "--save_steps", "1.0", "--output_dir", str(folder)])
    assert channels(folder) == [8, 8, 16, 16]
    assert VipriorsModel.from_pretrained(folder / "peer").config.backbone == "mobilenetv3_small_050"
    state = checkpoint(folder, 2)
    for peer in ("peer_a", "peer_b"):
        assert (state[f"{peer}.queue.index"] >= 0).all() and f"{peer}.momentum_model.projector.0.weight" in state
    settings = card_settings(folder)
    assert settings["queue_length"] == "16" and settings["encoder_momentum"] == "0.999"


def test_peers_of_one_network_share_its_arguments_unless_told_otherwise(options, tmp_path):
    more = ["--method", "dogo", "--projector_dim", "8", "--max_steps", "1", "--save_strategy", "no"]
    main([*options, *more, "--output_dir", str(tmp_path / "twins")])
    assert channels(tmp_path / "twins") == channels(tmp_path / "twins" / "peer") == [8, 8, 16, 16]
    more += ["--peer_backbone_args", '{"channels": [8, 8, 8, 8]}']
    main([*options, *more, "--output_dir", str(tmp_path / "others")])
    found = {tuple(channels(tmp_path / "others")), tuple(channels(tmp_path / "others" / "peer"))}
    assert found == {(8, 8, 16, 16), (8, 8, 8, 8)}


def test_the_peer_learns_at_its_own_rate(options, peers, tmp_path):
    groups = torch.load(peers / "checkpoint-2" / "optimizer.pt", weights_only=True)["param_groups"]
    rates = {group["initial_lr"] for group in groups}
    assert rates == {2e-3, 1e-3} and len(groups) == 4, "with and without weight decay, for either peer"
    assert {round(group["lr"] / group["initial_lr"], 9) for group in groups} != {1.0}, "both follow the schedule"
    assert len({round(group["lr"] / group["initial_lr"], 9) for group in groups}) == 1

    folder = tmp_path / "still"
    more = ["--method", "dogo", "--projector_dim", "8", "--peer_learning_rate", "1e-30", "--warmup_steps", "0"]
    main([*options, *more, *KEPT, "--output_dir", str(folder)])
    first, last = checkpoint(folder, 2), checkpoint(folder, 6)
    weights = [name for name in first if name.endswith("weight") and "model" in name]
    moved = {
        peer: [(first[n] - last[n]).abs().max() > 1e-20 for n in weights if n.startswith(peer)]
        for peer in ("peer_a", "peer_b")
    }
    assert all(moved["peer_a"]) and len(moved["peer_a"]) > 20 and not any(moved["peer_b"])


def test_strangers_get_our_features(seeded, peers, tmp_path):
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.save(pixels, tmp_path / "pixels.pt")
    folders = [str(seeded / "native"), str(peers / "native")]
    command = [sys.executable, "-I", "-c", STRANGER, str(tmp_path / "pixels.pt"), *folders]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=offline, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for folder, (kind, *features) in zip((seeded, peers), json.loads(done.stdout), strict=True):
        with torch.no_grad():
            ours = VipriorsModel.from_pretrained(folder).eval().features(pixels)
            again = load_native(folder / "native").features(pixels)
        assert kind == "TimmWrapperModel" and ours.std() > 0 and torch.equal(again, ours)
        for theirs in features:
            torch.testing.assert_close(torch.tensor(theirs), ours, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["seed", "dogo"])
def test_resumed_run_ends_like_the_one_that_was_not_interrupted(request, options, teacher_folder, tmp_path, method):
    whole = request.getfixturevalue({"seed": "seeded", "dogo": "peers"}[method])
    halves = tmp_path / "halves"
    shutil.copytree(whole, halves)
    for gone in (halves / "checkpoint-6", halves / "checkpoint-4", halves / "native", halves / "peer"):
        shutil.rmtree(gone, ignore_errors=True)
    for gone in ("model.safetensors", "metrics.json"):
        (halves / gone).unlink()
    settings = read(whole / "run.json")["arguments"]
    more = ["--method", method, *KEPT, "--resume_from_checkpoint", "true"]
    if method == "seed":
        more += ["--teacher", str(teacher_folder), "--backbone_args", SMALLER, "--patches", "2"]
    else:
        more += ["--projector_dim", "8", "--peer_backbone", "resnet18", "--peer_backbone_args", SMALLER]
        more += ["--peer_learning_rate", "1e-3"]
    main([*options, *more, "--output_dir", str(halves)])
    assert read(halves / "run.json")["arguments"]["learning_rate"] == settings["learning_rate"]
    files = [path.relative_to(whole) for path in whole.rglob("model.safetensors")]
    assert len(files) == {"seed": 5, "dogo": 6}[method]
    for file in files:
        if str(file.parent) not in ("checkpoint-2", "checkpoint-4"):
            first, second = load_file(whole / file), load_file(halves / file)
            assert first.keys() == second.keys()
            assert all(torch.equal(first[name], second[name]) for name in first), file
    first, second = checkpoint(whole, 6), checkpoint(halves, 6)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert read(whole / "metrics.json")["linear"] == read(halves / "metrics.json")["linear"]


def test_overwriting_clears_what_runs_write_and_nothing_else(options, peers, teacher_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(peers, folder)
    mine = [folder / "notes.txt", folder / "native" / "notes.txt", folder / "peer" / "notes.txt"]
    for path in mine:
        path.write_text("mine")
    more = ["--method", "seed", "--teacher", str(teacher_folder), "--max_steps", "1", "--save_strategy", "no"]
    main([*options, *more, "--overwrite_output_dir", "--output_dir", str(folder)])
    assert all(path.read_text() == "mine" for path in mine)
    assert [path.name for path in (folder / "peer").iterdir()] == ["notes.txt"]
    assert not list(folder.glob("checkpoint-*"))
    assert channels(folder) == [8, 8, 16, 16] and "peer" not in read(folder / "metrics.json")
    pixels = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        ours = VipriorsModel.from_pretrained(folder).eval().features(pixels)
        assert torch.equal(load_native(folder / "native").features(pixels), ours)


def test_another_job_in_the_same_folder_leaves_no_parts_behind(teacher_options, peers, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(peers, folder)
    more = ["--max_steps", "1", "--save_strategy", "no", "--overwrite_output_dir"]
    train_teacher.main([*teacher_options, *more, "--output_dir", str(folder)])
    assert not (folder / "native").exists() and not (folder / "peer").exists()


def test_cards_tell_what_was_done(seeded, peers, card_settings):
    seed, dogo = card_settings(seeded), card_settings(peers)
    card = (seeded / "README.md").read_text()
    assert "arxiv.org/abs/2101.04731" in card and "2104.09866" not in card
    assert "Came from: teacher" in card and str(seeded.parent) not in card
    assert {"teacher_temperature", "patches", "patch_scale"} <= seed.keys()
    assert not {"margin", "encoder_momentum", "contrast", "mutual_weight", "peer_backbone"} & seed.keys()
    card = (peers / "README.md").read_text()
    assert "Came from" not in card and "2101.04731" not in card
    assert {"contrast", "peer_backbone", "mutual_weight", "mutual_reduction", "margin"} <= dogo.keys()
    assert dogo["contrast"] == "simclr" and dogo["peer_learning_rate"] == "0.001"
    assert not {"teacher_temperature", "patches", "patch_scale", "queue_length", "encoder_momentum"} & dogo.keys()
    for folder in (seeded, peers):
        card = (folder / "README.md").read_text()
        assert "weighted kNN" in card and "linear probe" in card and "/native" in card
    assert "/native" not in (peers / "peer" / "README.md").read_text()


@pytest.mark.parametrize("method", ["supervised", "overhaul"])
@pytest.mark.parametrize("place", ["seed", "dogo", "peer", "native"])
def test_students_go_on_from_the_result(request, options, tmp_path, capsys, method, place):
    source = request.getfixturevalue("seeded" if place == "seed" else "peers")
    source = source / place if place in ("peer", "native") else source
    data = [*options[: options.index("--image_size")], "--per_device_train_batch_size", "6", "--max_steps", "2"]
    more = ["--method", method, "--teacher", str(source), "--distil_from_epoch", "0", "--save_strategy", "no"]
    train_student.main([*data, *more, "--output_dir", str(tmp_path / "student")])
    assert "starts from the teacher" in capsys.readouterr().err
    assert load_native(tmp_path / "student").config.backbone == "resnet18"
    logs = history(tmp_path / "student")
    assert any("distillation" in log for log in logs) == (method == "overhaul")


def test_a_folder_of_a_classifier_is_a_teacher_whoever_wrote_it(options, tmp_path, monkeypatch):
    """An exported student and the same network saved by our own class teach the same."""
    torch.manual_seed(0)
    config = VipriorsConfig.for_backbone("resnet18", image_size=40, backbone_args=json.loads(SMALLER))
    model = VipriorsForImageClassification(config)
    export_native(model, tmp_path / "native")
    model.save_pretrained(tmp_path / "ours")
    place = options.index("--image_size")
    as_the_teacher = options[:place] + options[place + 2 :]

    def draws_while_loading(name, **settings):
        torch.rand(10 if name.endswith("ours") else 20)
        return load_teacher(name, **settings)

    monkeypatch.setattr(setup, "load_teacher", draws_while_loading)
    for name in ("native", "ours"):
        more = ["--teacher", str(tmp_path / name), "--max_steps", "2", "--save_strategy", "no"]
        main([*as_the_teacher, *more, "--output_dir", str(tmp_path / f"from_{name}")])
        assert VipriorsModel.from_pretrained(tmp_path / f"from_{name}").config.image_size == 40
    first, second = (load_file(tmp_path / f"from_{name}" / "model.safetensors") for name in ("native", "ours"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_student_of_our_own_architectures_says_so_on_its_card(options, teacher_folder, tmp_path):
    folder = tmp_path / "student"
    more = ["--teacher", str(teacher_folder), "--backbone", "cifar_resnet8", "--backbone_args", "{}"]
    main([*options, *more, "--max_steps", "1", "--save_strategy", "no", "--output_dir", str(folder)])
    card = (folder / "README.md").read_text()
    assert "import that first" in card and "without this package" not in card
