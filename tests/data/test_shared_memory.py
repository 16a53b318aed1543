"""Decoded images once per machine: two processes hold the same memory, one decodes, and neither waits in vain."""

import io
import multiprocessing
import os
import signal
import socket
import sys
import time

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from hf_vipriors.cli import process as command_process
from hf_vipriors.data import ImageStore, ResizeCrop, build_store, collate, image_decoding, store_preparation
from hf_vipriors.data.shared_memory import SharedBytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux's")
GEOMETRY = ResizeCrop(resize=10, crop=8)


def image_set(bad=(2, 5)):
    found = []
    for seed in range(9):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(seed).integers(0, 256, (12, 15, 3), dtype=np.uint8)
        PILImage.fromarray(pixels).save(buffer, "PNG")
        found.append(b"no image" if seed in bad else buffer.getvalue())
    rows = [{"bytes": each, "path": None} for each in found]
    features = Features({"image": Image(decode=False), "label": Value("int64")})
    return Dataset.from_dict({"image": rows, "label": list(range(9))}, features=features)


def run(rank, port, folder, job):
    """A process of a launch, forked: nothing has to be imported again."""
    sys.stderr = open(folder / f"stderr_{rank}", "w", buffering=1)
    launched = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(launched, RANK=str(rank), LOCAL_RANK=str(rank))
    dist.init_process_group("gloo")
    job(rank, folder)
    dist.destroy_process_group()


def launch(folder, job):
    """Exit codes and stderr of two processes without a launcher that would end the one when the other fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=run, args=(rank, port, folder, job)) for rank in range(2)]
    for process in processes:
        process.start()
    deadline = time.monotonic() + 60
    for process in processes:
        process.join(max(0, deadline - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes, [(folder / f"stderr_{rank}").read_text() for rank in range(2)]


def counted(function, calls):
    def call(*args, **options):
        calls.append(1)
        return function(*args, **options)

    return call


def build_all(rank, folder):
    """Save what each process holds, how many images it decoded, and whether it sees what the first one writes."""
    calls = []
    image_decoding.read_pixels = counted(image_decoding.read_pixels, calls)
    store_preparation.read_pixels = image_decoding.read_pixels
    for case, options in {"memory": {}, "streamed": {"memory_share": 0.0}, "alone": {"every_process": False}}.items():
        calls.clear()
        options = {"on_bad_image": "skip", "every_process": True} | options
        store = build_store(image_set(), GEOMETRY, **options)
        decoded = len(calls)
        batch = store.__getitems__(list(range(len(store))))
        seen = torch.zeros(1)
        if isinstance(store, ImageStore):
            dist.barrier()  # both have read
            if rank == 0:
                store.images[0, 0, 0, 0] = 255 - store.images[0, 0, 0, 0]
            dist.barrier()
            seen = (store.images[0, 0, 0, 0] != batch["pixel_values"][0, 0, 0, 0]).float().view(1)
            dist.barrier()
        save_file(batch | {"decoded": torch.tensor([decoded]), "seen": seen}, folder / f"{case}_{rank}.safetensors")


def test_two_processes_hold_the_images_once(tmp_path):
    codes, errors = launch(tmp_path, build_all)
    assert codes == [0, 0], errors
    expected = build_store(image_set(), GEOMETRY, on_bad_image="skip")
    expected = expected.__getitems__(list(range(len(expected))))
    assert expected["labels"].tolist() == [0, 1, 3, 4, 6, 7, 8]
    decoded, seen = {}, {}
    for case in ("memory", "streamed", "alone"):
        for rank in range(2):
            found = load_file(tmp_path / f"{case}_{rank}.safetensors")
            decoded[case, rank], seen[case, rank] = int(found.pop("decoded")), bool(found.pop("seen"))
            for name, values in expected.items():
                assert torch.equal(found[name], values), (case, rank, name)
    # Seven images have a header that can be read. Only the first process decodes them, once.
    assert [decoded["memory", 0], decoded["memory", 1]] == [7, 0]
    assert [decoded["streamed", 0], decoded["streamed", 1]] == [7, 0]
    assert [decoded["alone", 0], decoded["alone", 1]] == [7, 7]
    assert seen["memory", 0] and seen["memory", 1]
    assert seen["alone", 0] and not seen["alone", 1]


def build_bad(rank, folder):
    command_process.MAIN_SPEAKS_FIRST = 0.0  # there is no launcher here that would end the other process meanwhile
    command_process.run(lambda: build_store(image_set(), GEOMETRY, every_process=True))


def test_a_bad_image_ends_all_processes_with_one_line(tmp_path):
    codes, errors = launch(tmp_path, build_bad)
    assert codes == [2, 2], errors
    whole, other = (text.strip() for text in errors)
    assert whole.startswith("error: unreadable image train row 2: ") and len(whole.splitlines()) == 1
    assert other == whole.replace("error: ", "error: process 1: "), "said once by the main process, signed by another"


def build_and_fail(rank, folder):
    def fail(*_, **__):
        raise MemoryError("nothing left")

    store_preparation.read_square = fail
    build_store(image_set(), GEOMETRY, on_bad_image="skip", every_process=True)


def test_what_is_no_mistake_of_the_user_ends_all_processes_too(tmp_path):
    codes, errors = launch(tmp_path, build_and_fail)
    assert codes == [1, 1]
    assert all("process 0" in text and "MemoryError: nothing left" in text for text in errors)


def build_and_die(rank, folder):
    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    store_preparation.read_square = die
    build_store(image_set(), GEOMETRY, on_bad_image="skip", every_process=True)


def test_a_process_killed_while_it_decodes_leaves_nobody_waiting(tmp_path):
    codes, errors = launch(tmp_path, build_and_die)
    assert codes[0] == -signal.SIGKILL and codes[1] == 1, errors


def test_memory_goes_with_the_last_process_that_maps_it():
    before = psutil.Process().num_fds()
    memory = SharedBytes.create(1 << 20)
    one, other = memory.map(), memory.map()
    one[7] = 5
    memory.release()
    with pytest.raises(OSError):
        memory.map()
    assert other[7] == 5 and one.is_shared()
    del one, other
    assert psutil.Process().num_fds() == before


BIG = 48 << 20  # bytes of images


def images(count, shared):
    if shared:
        memory = SharedBytes.create(count)
        flat = memory.map()
        memory.release()
    else:
        flat = torch.empty(count, dtype=torch.uint8)
    flat.random_(generator=torch.Generator().manual_seed(0))
    return ImageStore(flat.view(-1, 1, 64, 64), torch.zeros(count >> 12, dtype=torch.int64))


def read_by_workers(store, start):
    """Two data workers that have handed out all images; the loader keeps them alive."""
    loader = DataLoader(
        store,
        batch_size=64,
        num_workers=2,
        collate_fn=collate,
        multiprocessing_context=start,
        persistent_workers=True,
    )
    before = {child.pid for child in psutil.Process().children()}
    total = sum(int(batch["pixel_values"].sum(dtype=torch.int64)) for batch in loader)
    assert total == int(store.images.sum(dtype=torch.int64))
    children = [child for child in psutil.Process().children() if child.pid not in before]
    workers = [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
    assert len(workers) == 2
    return loader, workers


@pytest.mark.parametrize("shared", [False, True])
def test_forked_data_workers_do_not_copy_the_images(shared):
    alone = []
    for size in (1 << 20, BIG):
        loader, workers = read_by_workers(images(size, shared), "fork")
        alone.append(max(worker.memory_full_info().uss for worker in workers))
        del loader
    assert alone[1] - alone[0] < BIG / 3


@pytest.mark.slow
def test_spawned_data_workers_map_shared_images():
    loader, workers = read_by_workers(images(BIG, shared=True), "spawn")
    for worker in workers:
        (mapped,) = [each for each in worker.memory_maps() if "memfd:images" in each.path]
        assert mapped.size == BIG and mapped.rss > BIG / 3 and mapped.private_clean + mapped.private_dirty == 0
    del loader
