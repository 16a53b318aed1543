"""Where images wait and who decodes them changes nothing: the same batches, random numbers and weights, bit by bit."""

import io
import logging

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

from hf_vipriors.data import ImageStore, ResizeCrop, StreamedStore, build_store
from hf_vipriors.methods import Supervised
from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.search.space import tuned_arguments
from hf_vipriors.training import StudentArguments, StudentTrainer
from hf_vipriors.training.resolve import resolve
from hf_vipriors.training.setup import log_resolved
from hf_vipriors.views import ClassificationViews

STATS = {"mean": [0.5] * 3, "std": [0.25] * 3}


def photos(count=22):
    rows = []
    for seed in range(count):
        pixels = np.random.default_rng(seed).integers(0, 256, (150, 200, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        PILImage.fromarray(pixels).save(buffer, "JPEG" if seed % 2 else "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    features = Features({"image": Image(decode=False), "label": Value("int64")})
    return Dataset.from_dict({"image": rows, "label": [i % 4 for i in range(count)]}, features=features)


class Recorder(StudentTrainer):
    """Keeps what the loader gave, and draws a random number in each step, as a method with dropout does."""

    def _prepare_inputs(self, inputs):
        self.seen.append({name: torch.as_tensor(values).clone() for name, values in inputs.items()})
        self.drawn.append(torch.rand(()).item())
        return super()._prepare_inputs(inputs)


@pytest.fixture
def train(tiny_config, tmp_path):
    def run(memory_share, workers):
        store = build_store(photos(), ResizeCrop(32, 32), memory_share=memory_share, reduced=True)
        assert type(store) is (ImageStore if memory_share else StreamedStore)
        args = StudentArguments(
            method="supervised",
            output_dir=str(tmp_path / "run"),
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
            report_to="none",
            num_train_epochs=2,
            eval_strategy="epoch",
            per_device_train_batch_size=5,
            dataloader_num_workers=workers,
        )
        torch.manual_seed(0)
        method = Supervised(VipriorsForImageClassification(tiny_config()))
        names = [f"class{i}" for i in range(4)]
        data = {"train_dataset": store, "eval_dataset": store, "class_names": names}
        trainer = Recorder(method, args, views=ClassificationViews(32, **STATS), **data)
        trainer.seen, trainer.drawn = [], []
        trainer.train()
        return trainer

    return run


def test_training_is_the_same_from_memory_and_streamed_with_any_number_of_workers(train):
    first = train(0.5, 0)
    assert len(first.seen) == 10 and not torch.equal(first.seen[0]["index"], first.seen[5]["index"])
    assert sorted(torch.cat([batch["index"] for batch in first.seen[:5]]).tolist()) == list(range(22))
    for memory_share, workers in ((0.5, 2), (0, 0), (0, 2)):
        other = train(memory_share, workers)
        assert other.drawn == first.drawn
        for ours, theirs in zip(first.seen, other.seen, strict=True):
            for name, values in ours.items():
                assert torch.equal(values, theirs[name]) and values.stride() == theirs[name].stride(), name
        for name, values in first.model.state_dict().items():
            assert torch.equal(values, other.model.state_dict()[name]), name


def arguments(**options):
    return StudentArguments(method="supervised", use_cpu=True, **options)


@pytest.mark.parametrize(("cores", "processes", "workers"), [(2, "1", 2), (64, "1", 8), (64, "4", 2), (2, "4", 1)])
def test_streamed_images_get_workers_by_the_cores(cores, processes, workers, monkeypatch, caplog):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    args = arguments()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert args.dataloader_num_workers is None
    assert resolve(args, images=100).args.dataloader_num_workers == 0
    found = resolve(args, images=100, streamed=True)
    with caplog.at_level(logging.INFO, "hf_vipriors"):
        log_resolved(found)
    assert found.args.dataloader_num_workers == workers and f"{workers} workers decode" in caplog.text


def test_a_number_of_workers_that_was_given_stays():
    args = arguments(dataloader_num_workers=0)
    found = resolve(args, images=100, streamed=True)
    assert found.args.dataloader_num_workers == 0 and "dataloader_num_workers" not in found.sources
    automatic = arguments()
    assert resolve(automatic, images=100, streamed=True).args.dataloader_num_workers > 0
    assert tuned_arguments(automatic, {"mixup": 0.3}).dataloader_num_workers is None, "chosen anew for each trial"
    assert tuned_arguments(args, {"mixup": 0.3}).dataloader_num_workers == 0


def test_batches_are_copied_to_the_device_beside_the_step_before():
    def non_blocking(**options):
        return StudentArguments(method="supervised", **options).accelerator_config.non_blocking

    assert non_blocking()
    # Where no memory is pinned transformers would warn.
    assert not non_blocking(use_cpu=True) and not non_blocking(dataloader_pin_memory=False)
    assert not non_blocking(accelerator_config={"non_blocking": False})
