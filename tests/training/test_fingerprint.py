"""The fingerprint names what decides a run, part by part; and ``--seed`` alone decides the rest."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hf_vipriors.cli.student import main as train_student
from hf_vipriors.cli.teacher import main as train_teacher
from hf_vipriors.data import ImageSplits, ImageStore, PairedStore, ResizeCrop, build_store, load_splits
from hf_vipriors.methods import KnowledgeDistillation, Supervised
from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.training import DataArguments, StudentArguments
from hf_vipriors.training import fingerprint as made
from hf_vipriors.training.resolve import resolve
from hf_vipriors.training.setup import Setup

SHORT = ["--max_steps", "6", "--save_strategy", "no", "--eval_steps", "3"]


def run(command, options, folder, *, disturb=0):
    """Weights and metrics of a run in a process whose random numbers stand anywhere."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(disturb)
    command([*options, *SHORT, "--output_dir", str(folder)])
    return load_file(folder / "model.safetensors"), json.loads((folder / "metrics.json").read_text())


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("command", ["student", "teacher"])
def test_the_seed_alone_decides(command, student_options, teacher_options, tmp_path):
    main, options = {
        "student": (train_student, [*student_options, "--method", "supervised", "--mixup", "0.3", "--cutmix", "0.3"]),
        "teacher": (train_teacher, teacher_options),
    }[command]
    first, told = run(main, options, tmp_path / "first", disturb=1)
    again, told_again = run(main, options, tmp_path / "again", disturb=2)
    other, told_other = run(main, [*options, "--seed", "7"], tmp_path / "other", disturb=1)
    assert same(first, again) and told["fingerprint"] == told_again["fingerprint"]
    assert not same(first, other)
    assert changed(told["fingerprint"], told_other["fingerprint"]) == {"settings", "start"}
    written = json.loads((tmp_path / "first" / "run.json").read_text())
    assert written["fingerprint"] == told["fingerprint"]
    card = (tmp_path / "first" / "README.md").read_text()
    assert all(f"{part} `{value}`" in card for part, value in told["fingerprint"].items())


def changed(ours, theirs):
    assert ours.keys() == theirs.keys() == {"data", "start", "code", "settings", "versions"}
    assert all(len(value) == 12 for value in (*ours.values(), *theirs.values()))
    return {part for part in ours if ours[part] != theirs[part]}


@pytest.fixture
def sums(tiny_config, tmp_path):
    """``sums(...)``: a fingerprint, with whatever is to be other than usual."""

    def make(*, store=None, weights=0, teacher=None, **options):
        given = {"method": "supervised", "output_dir": str(tmp_path), "use_cpu": True, "report_to": "none"} | options
        torch.manual_seed(weights)
        network = VipriorsForImageClassification(tiny_config())
        method = Supervised(network) if teacher is None else KnowledgeDistillation(network, teacher)
        stores, args = {"train": store or images()}, StudentArguments(**given)
        resolved = resolve(args, images=6, evaluates=False)
        return made.fingerprint(Setup(args, resolved, DataArguments(), ImageSplits({}, []), stores, method, None))

    return make


def images(pixel=0, label=0):
    pixels, labels = torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2, 3, 0, 1])
    pixels[3, 0, 4, 4], labels[5] = pixel, label
    return ImageStore(pixels, labels)


def test_each_ingredient_changes_its_own_part(sums, tiny_config, monkeypatch):
    usual = sums()
    assert changed(usual, sums()) == set()
    assert changed(usual, sums(store=images(pixel=1))) == {"data"}
    assert changed(usual, sums(store=images(label=1))) == {"data"}
    assert changed(usual, sums(weights=1)) == {"start"}
    assert changed(usual, sums(weight_decay=1e-3)) == {"settings"}
    assert changed(usual, sums(seed=1)) == {"settings"}
    teachers = [VipriorsForImageClassification(tiny_config()) for _ in range(2)]
    assert changed(*(sums(teacher=teacher) for teacher in teachers)) == {"start"}, "a teacher counts by its weights"
    versions = made.versions()
    monkeypatch.setattr(made, "versions", lambda: {**versions, "timm": "0"})
    assert changed(usual, sums()) == {"versions"}


def test_what_decides_nothing_is_left_out(sums, tmp_path):
    same_run = {"output_dir": str(tmp_path / "b"), "logging_steps": 3, "save_steps": 7, "run_name": "b"}
    same_run |= {"dataloader_num_workers": 2, "guards": False, "disable_tqdm": True}
    assert changed(sums(), sums(**same_run)) == set()


def test_code_is_every_python_file_with_its_name(tmp_path):
    shutil.copytree(made.PACKAGE / "losses", tmp_path / "code")
    usual = made.code_sum(tmp_path / "code")
    (tmp_path / "code" / "notes.txt").write_text("no code")
    assert made.code_sum(tmp_path / "code") == usual
    (tmp_path / "code" / "kd.py").rename(tmp_path / "code" / "kd2.py")
    renamed = made.code_sum(tmp_path / "code")
    (tmp_path / "code" / "kd2.py").write_text("# changed\n")
    assert len({usual, renamed, made.code_sum(tmp_path / "code"), made.code_sum()}) == 4


def test_streamed_and_paired_stores_are_summed_too(photos, tmp_path):
    def streamed(folder):
        return build_store(
            load_splits("imagefolder", data_dir=str(folder)).splits["train"], ResizeCrop(16, 16), memory_share=0
        )

    store = streamed(photos)
    assert made.data_sum({"train": store}) == made.data_sum({"train": streamed(photos)})
    shutil.copytree(photos, tmp_path / "photos")
    Image.new("RGB", (20, 26), (1, 2, 3)).save(tmp_path / "photos" / "train" / "red" / "11.png")
    assert made.data_sum({"train": store}) != made.data_sum({"train": streamed(tmp_path / "photos")})
    pool = ImageStore(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, -1]))
    assert made.data_sum({"train": PairedStore(pool, 1)}) == made.data_sum({"train": pool})
    assert made.data_sum({"train": pool}) != made.data_sum({"test": pool})
