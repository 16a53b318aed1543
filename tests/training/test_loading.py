import shutil
from collections import namedtuple

import pytest
import torch

from hf_vipriors.data import ImageStore, PairedStore
from hf_vipriors.training import RunArguments, loading
from hf_vipriors.training.loading import fitting_workers

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "workers"), [(64 * 2**10, 0), (2**20, 2), (2**30, 8)])
def test_workers_have_room_in_shared_memory_for_their_batches(tmp_path, monkeypatch, caplog, free, workers):
    """A batch of 64 images of 3 x 32 x 32 takes 196,608 bytes, and each worker has two of them ready."""
    monkeypatch.setattr(loading, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free, 0, free))
    plain = {"use_cpu": True, "report_to": "none", "per_device_eval_batch_size": 8, "dataloader_num_workers": 8}
    store = ImageStore(torch.zeros(100, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, -1] * 50))
    with caplog.at_level("WARNING", "hf_vipriors"):
        assert fitting_workers(store, 64, RunArguments(str(tmp_path), **plain)) == workers
    assert bool(caplog.records) == (workers < 8)
    paired = fitting_workers(PairedStore(store, 7), 8, RunArguments(str(tmp_path), **plain))
    assert paired == workers, "8 labelled images, each with 7 companions"
