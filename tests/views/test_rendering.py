import multiprocessing
import os
import subprocess
import sys
import time

import pytest
import torch
from numba.core.dispatcher import Dispatcher

from hf_vipriors.views import kernels
from hf_vipriors.views.blur import draw_blur
from hf_vipriors.views.colour import draw_jitter
from hf_vipriors.views.rendering import Draws, by_torch, render
from hf_vipriors.views.sampling import Normalise, chosen, draw_crops

STATS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=24, channels=3, height=40, width=40):
    """Smooth ones and noise, with black, white and gray among them: where the hue changes its formula."""
    smooth = torch.nn.functional.interpolate(torch.rand(count, channels, 5, 5, generator=seeded(1)), (height, width))
    made = (smooth * 255).to(torch.uint8)
    made[::3] = torch.randint(0, 256, made[::3].shape, generator=seeded(2), dtype=torch.uint8)
    made[1], made[2, :] = 0, 255
    made[4] = made[4, :1]
    return made


def draws(count=24, size=32, *, strength=(0.4, 0.4, 0.4, 0.1), sigma=(0.1, 2.0), side=None, **crops):
    generator = seeded(3)
    return Draws(
        draw_crops(count, (0.2, 1.0), generator, **crops),
        turned="rotation" in crops,
        jitter=draw_jitter(count, strength, 0.8, generator),
        colour=~chosen(count, 0.2, generator),
        widths=draw_blur(count, sigma, 0.5, generator, side=side or size),
        side=side,
    )


def same(raw, drawn, size, atol=2e-5):
    got = render(raw, drawn, size)
    torch.testing.assert_close(got, by_torch(raw, drawn, size), rtol=0, atol=atol)
    assert got.is_contiguous(memory_format=torch.channels_last)
    return got


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 32, 65, 128])
def test_compiled_views_are_those_of_torch_and_kornia(channels, size):
    same(images(channels=channels), draws(size=size), size)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 9), (97, 31), (1, 60)])
def test_images_of_any_shape(channels, height, width):
    raw = images(channels=channels, height=height, width=width)
    same(raw, draws(), 32, atol=5e-5)
    same(raw, draws(rotation=30.0, shear=0.4), 32, atol=5e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [24, 64])
@pytest.mark.parametrize("angles", [{"rotation": 20.0, "shear": 0.2}, {"rotation": 180.0, "shear": 3.0}])
def test_turned_views_see_the_reflection_beyond_the_border(channels, size, angles):
    same(images(channels=channels), draws(size=size, **angles), size)


@pytest.mark.parametrize("strength", [(1.0, 1.0, 1.0, 0.5), (0.0, 0.0, 0.0, 0.5), (0.0, 0.0, 1.0, 0.0)])
def test_any_strength_of_jitter(strength):
    same(images(count=240), draws(count=240, strength=strength), 32, atol=5e-5)


def test_a_patch_is_blurred_with_the_kernel_of_its_view():
    raw = images()
    patch = same(raw, draws(sigma=(3.0, 3.0), side=448), 24)
    assert (patch - render(raw, draws(sigma=(3.0, 3.0), side=448, size=24), 24)).abs().max() == 0
    own = Draws(**vars(draws(sigma=(3.0, 3.0), side=448)) | {"side": None})
    assert (patch - render(raw, own, 24)).abs().max() > 1e-3


def test_crops_alone_leave_colours_and_sharpness():
    drawn = Draws(draw_crops(24, (0.2, 1.0), seeded()))
    same(images(), drawn, 32, atol=1e-5)


@pytest.mark.parametrize(("channels", "network"), [(1, 1), (1, 3), (3, 3)])
def test_normalised_for_the_network(channels, network):
    normalise = Normalise(STATS["mean"][:network], STATS["std"][:network])
    got = render(images(channels=channels), draws(), 32, normalise)
    want = normalise.scaled(by_torch(images(channels=channels), draws(), 32))
    assert got.shape == (24, network, 32, 32) and got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4)


def test_batches_that_do_not_lie_in_one_piece():
    raw = images()
    want = render(raw, draws(), 32)
    last = raw.contiguous(memory_format=torch.channels_last)
    assert torch.equal(render(last, draws(), 32), want)
    assert torch.equal(render(raw.repeat_interleave(2, dim=0)[::2], draws(), 32), want)


def test_threads_change_nothing():
    raw, before = images(count=101), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        want = render(raw, draws(101, 64), 64)
        for threads in (2, 3, 7):
            torch.set_num_threads(threads)
            assert torch.equal(render(raw, draws(101, 64), 64), want)
    finally:
        torch.set_num_threads(before)


def in_child(connection, raw, drawn):
    connection.send(render(raw, drawn, 64).numpy().tobytes())


def test_a_forked_process_has_threads_of_its_own():
    raw, drawn, before = images(count=64), draws(64, 64), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        want = render(raw, drawn, 64).numpy().tobytes()
        here, there = multiprocessing.Pipe()
        fork = multiprocessing.get_context("fork")
        child = fork.Process(target=in_child, args=(there, raw, drawn), daemon=True)
        child.start()
        assert here.poll(60), "the child waits for threads that it does not have"
        assert here.recv() == want
        child.join()
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_where_nothing_can_be_kept_it_is_compiled_each_time_and_said():
    code = """
import logging
logging.basicConfig(level="INFO")
import numba.core.caching as caching
caching.FunctionCache._impl_class._locator_classes = []
import torch
from hf_vipriors.views import kernels
from hf_vipriors.views.rendering import Draws, render
from hf_vipriors.views.sampling import draw_crops
assert kernels.compiled(kernels.render_part).stats.cache_path is None
print(int(kernels._clip(2.0)))
draws = Draws(draw_crops(4, (0.2, 1.0), torch.Generator().manual_seed(0)))
render(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), draws, 32)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout.strip() == "1", ended.stderr[-2000:]
    assert ended.returncode == 0 and ended.stderr.count("compiling the views") == 1


def test_loading_what_was_kept_is_not_said_however_long_it_takes(caplog, monkeypatch):
    raw, drawn, load = images(), draws(24, 64), Dispatcher.compile
    render(raw, drawn, 64)
    monkeypatch.setattr(kernels, "_KERNELS", {})
    monkeypatch.setattr(Dispatcher, "compile", lambda *arguments: time.sleep(2.5) or load(*arguments))
    with caplog.at_level("INFO"):
        render(raw, drawn, 64)
    assert kernels._KERNELS and not caplog.records


@pytest.mark.parametrize(
    "raw",
    [torch.rand(2, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(2, 4, 8, 8, dtype=torch.uint8)],
)
def test_refuses_what_is_no_batch_of_bytes(raw):
    with pytest.raises(ValueError, match="uint8"):
        render(raw, Draws(draw_crops(len(raw), (0.2, 1.0), seeded())), 8)


@pytest.mark.slow
def test_the_first_process_renders_as_all_later_ones(tmp_path):
    """It compiles and says so, they load what it left: to the last bit the same."""
    code = """
import hashlib, logging, torch
logging.basicConfig(level="INFO")
from hf_vipriors.views import ContrastiveViews
views = ContrastiveViews(32, [0.5] * 3, [0.25] * 3)
images = torch.randint(0, 256, (16, 3, 36, 36), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
found = torch.cat(views(images, torch.Generator().manual_seed(1)))
print(hashlib.sha256(found.contiguous().numpy().tobytes()).hexdigest())
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    options = {"capture_output": True, "text": True, "check": True, "env": environment}
    first, second = (subprocess.run([sys.executable, "-c", code], **options) for _ in range(2))
    assert first.stdout == second.stdout and any(tmp_path.rglob("*.nbc"))
    assert first.stderr.count("compiling the views") == 1
