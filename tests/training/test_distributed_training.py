"""The Trainer on two and four processes, and under FSDP2: the steps of one, uneven epochs, resumption elsewhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

WORKER = Path(__file__).with_name("distributed_worker.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, WORKER, folder], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def ranks(folder):
    """``ranks(name, processes)``: what each process had in the end, and under "seen" the images of its steps."""

    def read(name, processes):
        found = [load_file(folder / f"{name}_{processes}_{rank}.safetensors") for rank in range(processes)]
        assert not list(folder.glob(f"{name}_{processes}_{processes}.*"))
        return found

    return read


@pytest.fixture(scope="module")
def history(folder):
    """``history(name, processes)``: the main process's log."""
    return lambda name, processes: json.loads((folder / f"{name}_{processes}_0.json").read_text())


def assert_same_state(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name in found.keys() - {"seen", "lengths"}:
        torch.testing.assert_close(found[name], expected[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance)


CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("method", ["supervised", "moco"])
def test_several_processes_take_the_steps_of_one(ranks, history, method, processes):
    """24 images in batches of 8, two epochs: weights, moving averages, queue and the logged losses."""
    (single,) = ranks(method, 1)
    for found in ranks(method, processes):
        assert_same_state(found, single, **CLOSE)
    together = torch.cat([found["seen"] for found in ranks(method, processes)], dim=1)
    assert torch.equal(together, single["seen"]), "each global batch, in rank order"
    losses = [[log["loss"] for log in history(method, world) if "loss" in log] for world in (1, processes)]
    assert len(losses[0]) == 6 and losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_accumulation_is_one_larger_batch(ranks, history):
    """Two micro-batches of 2 on two processes step like one batch of 8, where a method is a mean over images. (Methods
    with in-batch negatives find them in the micro-batch of all processes; a queue moves on with every micro-batch.)"""
    (single,) = ranks("supervised", 1)
    for found in ranks("accumulated", 2):
        assert found["seen"].shape == (12, 2)
        assert_same_state(found, single, **CLOSE)
    steps = [log["loss"] for log in history("accumulated", 2) if "loss" in log]
    assert steps == pytest.approx([log["loss"] for log in history("supervised", 1) if "loss" in log], rel=1e-3)


@pytest.mark.parametrize("processes", [2, 4])
def test_an_uneven_epoch_is_filled_up_with_its_first_images(ranks, processes):
    """21 images in batches of 8: in the last step, too, every process has a full batch, and no image meets itself."""
    found = ranks("uneven", processes)
    together = torch.cat([rank["seen"] for rank in found], dim=1)
    assert together.shape == (6, 8)
    for epoch in together.chunk(2):
        assert sorted(epoch.flatten().tolist()[:21]) == list(range(21)), "every image"
        assert epoch.flatten().tolist()[21:] == epoch.flatten().tolist()[:3], "then the first again"
        assert all(len(set(step.tolist())) == 8 for step in epoch)
    for rank in found[1:]:
        assert_same_state(rank, found[0], rtol=0, atol=0)


def test_one_process_has_a_smaller_last_batch(folder):
    """... and pads nothing: its last step has the 5 images that are left (three steps an epoch all the same)."""
    assert load_file(folder / "uneven_1_0.safetensors")["lengths"].tolist() == [8, 8, 5] * 2


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_a_checkpoint_of_two_resumes_on_any_number(ranks, history, processes):
    """The same global batch: the rest of the run is that of the run that was not stopped, on every process."""
    whole = ranks("saved", 2)[0]
    found = ranks("resumed", processes)
    for rank in found:
        assert_same_state(rank, whole, **CLOSE)
        assert_same_state(rank, found[0], rtol=0, atol=0)
    together = torch.cat([rank["seen"] for rank in found], dim=1)
    assert torch.equal(together, torch.cat([rank["seen"] for rank in ranks("saved", 2)], dim=1)[3:])
    logs = {name: [log for log in history(*name) if "loss" in log] for name in (("resumed", processes), ("saved", 2))}
    resumed, uninterrupted = logs.values()
    assert [log["step"] for log in resumed] == [1, 2, 3, 4, 5, 6], "the log goes on"
    for key in ("loss", "learning_rate", "contrastive"):
        assert [log[key] for log in resumed] == pytest.approx([log[key] for log in uninterrupted], rel=1e-3), key


def test_evaluation_on_two_processes_counts_each_image_once(history):
    assert [log["eval_knn_top1"] * 6 % 1 for log in history("saved", 2) if "eval_knn_top1" in log] == pytest.approx(
        [0, 0], abs=1e-6
    )


@pytest.mark.parametrize(
    ("case", "same", "processes"), [("sharded_supervised", "supervised", 1), ("sharded_norms", "norms", 2)]
)
def test_fsdp2_takes_the_same_steps(ranks, case, same, processes):
    """Weights, moving averages and the model that is deployed, whole on both processes. Batch norms have statistics of
    their own on each process, as with DDP."""
    expected = ranks(same, processes)
    assert any(name.startswith("deployable") for name in expected[0])
    for rank, found in enumerate(ranks(case, 2)):
        assert_same_state(found, expected[rank % processes], **CLOSE)


def test_fsdp2_moves_the_momentum_encoder_and_fills_the_queue(ranks):
    for found in ranks("sharded_saved", 2):
        assert_same_state(found, ranks("moco", 1)[0], **CLOSE)


@pytest.mark.parametrize(("case", "processes"), [("sharded_resumed", 2), ("unsharded", 1)])
def test_a_checkpoint_goes_on_with_and_without_fsdp2(folder, ranks, history, case, processes):
    """One of DDP under FSDP2, and the other way round; both have the same files."""
    for found in ranks(case, processes):
        assert_same_state(found, ranks("saved", 2)[0], **CLOSE)
    assert [log["step"] for log in history(case, processes) if "loss" in log] == [1, 2, 3, 4, 5, 6]
    files = [{file.name for file in (folder / name / "checkpoint-3").iterdir()} for name in ("saved", "sharded")]
    assert files[0] == files[1]
