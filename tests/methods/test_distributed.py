"""Two processes compute what one computes: the same loss, weights and queue after three steps."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

CASES = (
    "moco_frozen",
    "moco_shuffled",
    "simclr_frozen",
    "overhaul_frozen",
    "seed_frozen",
    "dogo_simclr_frozen",
    "dogo_moco_frozen",
    "dogo_moco_shuffled",
    "kd_frozen",
    "crd_frozen",
    "crd_drawn",
    "sskd_frozen",
    "moco_unshuffled",
    "evaluation",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    found = {}
    for processes in (1, 2):
        folder = tmp_path_factory.mktemp(f"world{processes}")
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        worker = Path(__file__).with_name("distributed_worker.py")
        done = subprocess.run([*launcher, str(worker), str(folder), *CASES], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        for case in CASES:
            found[case, processes] = [load_file(folder / f"{case}_{rank}.safetensors") for rank in range(processes)]
    return found


@pytest.mark.parametrize("case", [c for c in CASES if c.endswith("frozen")])
def test_two_processes_train_like_one(runs, case):
    """Losses, weights, queues and memories. SSKD's loss belongs to the batch of a process: the one process takes the
    two halves of its batch one after the other there."""
    (single,), pair = runs[case, 1], runs[case, 2]
    assert single["losses"].std() > 0
    for other in pair:
        assert other.keys() == single.keys()
        for name, tensor in single.items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


QUEUES = {
    "moco_frozen": ["queue"],
    "moco_shuffled": ["queue"],
    "dogo_moco_shuffled": ["peer_a.queue", "peer_b.queue"],
    "seed_frozen": ["queue", "patch_queue"],
}


@pytest.mark.parametrize(("case", "queue"), [(case, queue) for case, queues in QUEUES.items() for queue in queues])
def test_queues_are_equal_on_both_ranks(runs, case, queue):
    """Three times eight keys, of images 0 to 7, 8 to 15 and 0 to 7 again: the last ones stay, wherever they lie."""
    first, second = runs[case, 2]
    for name in ("keys", "index", "pointer"):
        assert torch.equal(first[f"{queue}.{name}"], second[f"{queue}.{name}"]), name
    index = first[f"{queue}.index"].tolist()
    assert sorted(index) == sorted([*range(16), *range(8)][-len(index) :])


def test_a_memory_takes_the_embeddings_of_all_processes(runs):
    """Each image has been seen, and each process draws negatives of its own: the memories stay the same."""
    first, second = runs["crd_drawn", 2]
    for name in ("student_memory", "teacher_memory", "normalisers"):
        assert torch.equal(first[name], second[name]), name
    assert first["normalisers"].min() > 0


def test_evaluation_is_shared_out_and_comes_back_whole(runs):
    (single,), pair = runs["evaluation", 1], runs["evaluation", 2]
    assert single["labels"].tolist() == list(range(13))
    for other in pair:
        assert other["labels"].tolist() == list(range(13)), "in order, nothing twice"
        torch.testing.assert_close(other["values"], single["values"], rtol=1e-4, atol=1e-5)


def test_parameters_are_equal_on_both_ranks(runs):
    for case in CASES[:-1]:
        first, second = runs[case, 2]
        for name in first:
            # Batch-norm statistics belong to each process's own batches; everything else is shared.
            if "running_" not in name:
                torch.testing.assert_close(first[name], second[name], msg=lambda m, n=name, c=case: f"{c} {n}: {m}")


def test_batch_norm_of_the_keys_really_is_shuffled(runs):
    """Each process normalises keys drawn from both: its statistics are not those of its own images alone."""
    shuffled, own = runs["moco_shuffled", 2][0], runs["moco_unshuffled", 2][0]
    name = "momentum_model.backbone.bn1.running_mean"
    assert not torch.allclose(shuffled[name], own[name], rtol=1e-3)
    # ... and the keys are put back in order: the same images lie in the same slots.
    assert torch.equal(shuffled["queue.index"], own["queue.index"])
