"""Two and four processes compute what one computes: the same loss, gradients, weights and queue after three steps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_vipriors.methods import distributed

WORKER = Path(__file__).with_name("distributed_worker.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """``runs[case, processes]``: what each rank has, in rank order."""
    folder = tmp_path_factory.mktemp("worlds")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, WORKER, folder], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        case, processes, _ = file.stem.rsplit("_", 2)
        found.setdefault((case, int(processes)), []).append(load_file(file))
    assert all(len(ranks) == processes for (_, processes), ranks in found.items())
    return found


FROZEN = ["moco", "simclr", "overhaul", "seed", "dogo_simclr", "dogo_moco", "supervised", "kd", "crd"]
FROZEN += ["fixmatch", "adamatch", "softmatch"]
LIKE_ONE = [(f"{case}_frozen", processes) for case in FROZEN for processes in (2, 4)]
LIKE_ONE += [("sskd2_frozen", 2), ("sskd4_frozen", 4)]


@pytest.mark.parametrize(("case", "processes"), LIKE_ONE)
def test_several_processes_train_like_one(runs, case, processes):
    """Losses, gradients, weights, queues and memories, with batch norms in eval mode: what they would take from the
    batch is that of one process by design. SSKD's loss belongs to the batch of a process too: the one process takes
    the parts of its batch one after the other there. SimCLR and DoGo agree only with the negatives of all."""
    (single,) = runs[case, 1]
    assert single["losses"].std() > 0 and any(name.startswith("gradient of") for name in single)
    for other in runs[case, processes]:
        assert other.keys() == single.keys()
        for name, tensor in single.items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


QUEUES = {
    "moco_frozen": ["queue"],
    "moco_shuffled": ["queue"],
    "dogo_moco_shuffled": ["peer_a.queue", "peer_b.queue"],
    "seed_frozen": ["queue", "patch_queue"],
}


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize(("case", "queue"), [(case, queue) for case, queues in QUEUES.items() for queue in queues])
def test_queues_are_equal_on_all_ranks(runs, case, queue, processes):
    """Three times eight keys, of images 0 to 7, 8 to 15 and 0 to 7 again: the last ones stay, wherever they lie."""
    first, *others = runs[case, processes]
    for name in ("keys", "index", "pointer"):
        assert all(torch.equal(first[f"{queue}.{name}"], other[f"{queue}.{name}"]) for other in others), name
    index = first[f"{queue}.index"].tolist()
    assert sorted(index) == sorted([*range(16), *range(8)][-len(index) :])


@pytest.mark.parametrize("processes", [2, 4])
def test_a_memory_takes_the_embeddings_of_all_processes(runs, processes):
    """Each image has been seen, and each process draws negatives of its own: the memories stay the same."""
    first, *others = runs["crd_drawn", processes]
    for name in ("student_memory", "teacher_memory", "normalisers"):
        assert all(torch.equal(first[name], other[name]) for other in others), name
    assert first["normalisers"].min() > 0


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("count", [13, 3])
def test_evaluation_is_shared_out_and_comes_back_whole(runs, count, processes):
    (single,) = runs["evaluation", 1]
    for other in (single, *runs["evaluation", processes]):
        assert other[f"labels{count}"].tolist() == list(range(count)), "in order, nothing twice"
        torch.testing.assert_close(other[f"values{count}"], single[f"values{count}"], rtol=1e-4, atol=1e-5)


def test_parameters_are_equal_on_all_ranks(runs):
    for (case, _), (first, *others) in runs.items():
        # Batch-norm statistics belong to each process's own batches; everything else is shared.
        for name in (name for name in first if "running_" not in name):
            for other in others:
                torch.testing.assert_close(first[name], other[name], msg=lambda m, n=name, c=case: f"{c} {n}: {m}")


@pytest.mark.parametrize("processes", [2, 4])
def test_batch_norm_of_the_keys_really_is_shuffled(runs, processes):
    """Each process normalises keys drawn from all: its statistics are not those of its own images alone."""
    shuffled, own = runs["moco_shuffled", processes][0], runs["moco_unshuffled", processes][0]
    name = "momentum_model.backbone.bn1.running_mean"
    assert not torch.allclose(shuffled[name], own[name], rtol=1e-3)
    # ... and the keys are put back in order: the same images lie in the same slots.
    assert torch.equal(shuffled["queue.index"], own["queue.index"])


def test_rows_arrive_in_order_where_memory_is_copied_as_it_lies(monkeypatch):
    """NCCL copies memory: what is gathered and where it goes must lie alike, as images in channels_last do not."""

    def all_gather(parts, tensor):
        for part in parts:
            for whole in (part, tensor):
                assert whole.numel() * whole.element_size() == whole.untyped_storage().nbytes()
            part.untyped_storage().copy_(tensor.untyped_storage())

    monkeypatch.setattr(distributed, "world", lambda: (0, 2))
    monkeypatch.setattr(distributed.dist, "all_gather", all_gather)
    images = torch.rand(3, 4, 5, 6).contiguous(memory_format=torch.channels_last)
    for tensor in (images, images.contiguous(), torch.rand(4, 3).T):
        assert torch.equal(distributed.gather(tensor), torch.cat([tensor, tensor]))
