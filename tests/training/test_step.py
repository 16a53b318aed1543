"""What the trainer does around a step: no waiting for the device, one graph where compiled, memory found again."""

import platform
import resource
import statistics

import pytest
import torch
from page_faults import NUMBERS, faults
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainerCallback

from hf_vipriors.data import ImageStore
from hf_vipriors.losses import _checks
from hf_vipriors.methods import FixMatch, Supervised
from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.training import StudentArguments, StudentTrainer
from hf_vipriors.training.checkpoints import checkpoint_state
from hf_vipriors.training.loading import collate_batch

NAMES = ["class0", "class1", "class2", "class3"]


class Given(torch.nn.Module):
    """Views that draw nothing: what they cost is theirs, not the step's."""

    def forward(self, images, generator):
        return [images.expand(-1, 3, -1, -1).float() / 255]


def trainer(tiny_config, folder, method=Supervised, **options):
    torch.manual_seed(0)
    args = StudentArguments(
        method="supervised",
        output_dir=str(folder),
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        eval_strategy="no",
        per_device_train_batch_size=5,
        **({"logging_steps": 100, "save_strategy": "no"} | options),
    )
    images = torch.randint(0, 256, (20, 1, 32, 32), dtype=torch.uint8)
    store = ImageStore(images, torch.arange(20) % 4)
    method = method(VipriorsForImageClassification(tiny_config()), ema_decay=0.9)
    return StudentTrainer(method, args, train_dataset=store, views=Given(), eval_dataset=store, class_names=NAMES)


class Reads(TorchDispatchMode):
    """How often a value was asked for."""

    ASKING = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "item")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ in self.ASKING
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optim", ["sgd", "adamw_torch"])
def test_more_steps_ask_for_no_more_values(tiny_config, tmp_path, monkeypatch, optim):
    monkeypatch.setattr(_checks, "readable", lambda tensor: False)  # as on an accelerator
    reads = []
    for steps in (2, 4):
        training = trainer(tiny_config, tmp_path / str(steps), max_steps=steps, optim=optim)
        # The loader counts on the CPU, wherever training runs.
        training.data_collator = lambda batch: {**batch, "labelled": len(batch["labels"])}
        with Reads() as found:
            training.train()
        reads.append(found.count)
    assert reads[0] == reads[1] > 0


def test_the_loader_tells_how_many_are_labelled():
    batch = {"pixel_values": torch.zeros(4, 1, 2, 2), "index": torch.arange(4)}
    found = [
        collate_batch({**batch, "labels": torch.tensor(labels)})["labelled"]
        for labels in ([3, 0, -1, -1], [0, -1, 1, 2])
    ]
    assert found == [2, None]


def test_labelled_images_told_or_found_are_the_same_step(tiny_config):
    torch.manual_seed(0)
    method = FixMatch(VipriorsForImageClassification(tiny_config()), ema_decay=0.9, confidence=0.0).eval()
    views, labels = [torch.randn(6, 3, 32, 32) for _ in range(2)], torch.tensor([1, 2, 0, -1, -1, -1])
    told = method([view.clone() for view in views], labels, torch.arange(6), labelled=3)
    mixed = torch.tensor([3, 0, 4, 1, 5, 2])
    found = method([view[mixed] for view in views], labels[mixed], torch.arange(6))
    torch.testing.assert_close(told.loss, found.loss)


@pytest.mark.slow
def test_compiled_training_is_the_same_training_and_its_checkpoints_too(tiny_config, tmp_path):
    torch._dynamo.reset()
    histories, states = [], []
    for name, options in (("plain", {}), ("compiled", {"torch_compile": True, "torch_compile_backend": "eager"})):
        counters.clear()
        training = trainer(
            tiny_config, tmp_path / name, max_steps=4, logging_steps=1, save_strategy="steps", save_steps=4, **options
        )
        training.train()
        assert counters["stats"]["unique_graphs"] == (1 if options else 0)
        histories.append(torch.tensor([log["loss"] for log in training.state.log_history if "loss" in log]))
        states.append(checkpoint_state(tmp_path / name / "checkpoint-4"))
    assert len(histories[0]) == 4 and histories[0].std() > 0
    torch.testing.assert_close(*histories, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(*states, rtol=1e-3, atol=1e-4)


class Allocates(TrainerCallback):
    """As many pages as the system had to find for 64 MiB after each step."""

    def __init__(self):
        self.faults = []

    def on_step_end(self, args, state, control, **kwargs):
        self.faults.append(faults(1))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc")
def test_on_a_cpu_a_step_finds_what_the_one_before_freed(tiny_config, tmp_path):
    outside, found = torch.ones(NUMBERS).nbytes / resource.getpagesize(), Allocates()
    training = trainer(tiny_config, tmp_path, max_steps=16)
    training.add_callback(found)
    training.train()
    # Most steps, not all: a neighbour that wants memory takes pages from one, and this process finds them anew.
    assert statistics.median(found.faults[-5:]) < outside / 4
