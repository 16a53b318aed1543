"""A streamed store takes no memory that grows with the number of images but a few bytes of labels and row numbers."""

import ctypes
import gc
import json
import multiprocessing
import os
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from hf_vipriors.data import StreamedStore, apply_protocol, build_store, collate, load_splits, train_geometry

sys.path.insert(0, str(Path(__file__).parent))
from many_images import own_memory, write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of malloc.h
FEW, MANY = 5_000, 50_000


def use(folder: Path, report: Path) -> None:
    """Load, choose, verify and hand out 40 batches; reports bytes taken while that went on, at most and at the end."""
    # A progress bar appears where images take more than two seconds, and takes a megabyte then.
    os.environ["TQDM_DISABLE"] = "1"
    import datasets

    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    # What is freed goes back to the system at once: else the allocator's habits would be measured.
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 16)
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    pa.set_memory_pool(pa.system_memory_pool())
    peaks = {}
    for name in ("warm", "data"):  # what is made once for all data sets does not count
        gc.collect()
        start, most, done = own_memory(), [0], threading.Event()

        def watch(most=most, done=done):
            while not done.wait(0.01):
                most[0] = max(most[0], own_memory())

        watcher = threading.Thread(target=watch)
        watcher.start()
        splits = apply_protocol(load_splits(str(folder / name)))
        train = splits.splits["train"]
        store = build_store(train, train_geometry(train, 8), memory_share=0)
        assert isinstance(store, StreamedStore) and len(store) == len(train)
        order = torch.Generator().manual_seed(0)
        loader = DataLoader(store, batch_size=64, shuffle=True, generator=order, collate_fn=collate)
        for _, batch in zip(range(40), loader, strict=False):
            assert batch["pixel_values"].shape[1:] == (3, 8, 8)
        del loader, batch
        gc.collect()
        done.set()
        watcher.join()
        peaks[name] = (most[0] - start, own_memory() - start)
    report.write_text(json.dumps(peaks["data"]))


def taken(tmp_path: Path, count: int) -> list[int]:
    folder = tmp_path / str(count)
    write(folder / "data", count)
    write(folder / "warm", 300)
    process = multiprocessing.get_context("spawn").Process(target=use, args=(folder, folder / "report.json"))
    process.start()
    process.join()
    assert process.exitcode == 0
    return json.loads((folder / "report.json").read_text())


@pytest.mark.slow
def test_ten_times_as_many_images_take_hardly_more_memory(tmp_path):
    (few_most, few), (many_most, many) = taken(tmp_path, FEW), taken(tmp_path, MANY)
    # Labels, row numbers and the words "train row 12345": measured 74 bytes an image. A list of Python numbers would
    # be 40 more, the table that datasets makes for each row that it gathers 450.
    for more in (many - few, many_most - few_most):
        assert more < 90 * (MANY - FEW), more / (MANY - FEW)
