from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

# Offline, quiet and one thread a process: the tests run side by side on two cores.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_VIPRIORS_STORE"] = "none"  # tests/data/test_decoded_cache.py asks for it

import pytest
import torch
from hypothesis import HealthCheck, settings
from safetensors import safe_open

sys.path.insert(0, str(Path(__file__).parent))  # for the package hub_server, a Hub on loopback
from hub_server.fixtures import hub, hub_here, logged_in, waits  # noqa: F401
from tiny_runs import (  # noqa: F401
    card_settings,
    classifier_folder,
    common,
    contents,
    photos,
    student_options,
    teacher_folder,
    teacher_options,
)

torch.set_num_threads(1)
# Random, but the same each time and on every machine; tmp_path may be shared by the examples of a test.
settings.register_profile(
    "ours",
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("ours")
FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module", autouse=True)
def small_heap():
    """What the imports and earlier tests made stays: each training collects garbage, and would search all of it.

    With millions of objects, that took most of the time of tiny trainings.
    """
    gc.collect()
    gc.freeze()


NOT_SLOW = "not slow"  # the addopts of pyproject.toml
SLOW = pytest.StashKey[int]()  # slow tests that were left out, counted in each worker


def pytest_deselected(items):
    """Count the slow tests that ``-m "not slow"`` leaves out; what ``-k`` leaves out is rarely slow alone."""
    if items and all(item.get_closest_marker("slow") for item in items):
        config = items[0].config
        if config.option.markexpr == NOT_SLOW:
            config.stash[SLOW] = len(items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """With pytest-xdist the workers count: each collects all tests."""
    node.config.stash[SLOW] = max(node.config.stash.get(SLOW, 0), getattr(node, "workeroutput", {}).get("slow", 0))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    """The last line of a run says what it left out."""
    result = yield
    gc.unfreeze()
    config = session.config
    if (output := getattr(config, "workeroutput", None)) is not None:  # a worker of pytest-xdist
        output["slow"] = config.stash.get(SLOW, 0)
    elif left_out := config.stash.get(SLOW, 0):
        writer = config.get_terminal_writer()
        writer.line(f"{left_out} slow tests were left out; to run them: uv run --extra test pytest -m slow")
    return result


@pytest.fixture
def oracle():
    """Read one case of the published programs' values: ``oracle("ofd")["student"]``. Nothing ever writes the file."""

    def read(case: str) -> dict[str, torch.Tensor]:
        with safe_open(FIXTURES / "published_losses.safetensors", "pt") as file:
            names = [name for name in file.keys() if name.startswith(f"{case}.")]
            assert names, f"no case {case}"
            return {name.removeprefix(f"{case}."): file.get_tensor(name) for name in names}

    return read


@pytest.fixture
def small_files():
    """No file may grow beyond 64 KiB: to a program the same as a disk that is full, and no rights are needed."""
    resource = pytest.importorskip("resource")  # Windows has none
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


TINY = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4}


@pytest.fixture
def tiny_config():
    """Configuration of a ResNet-18 small enough for tests: ``tiny_config(projector_dim=16)``."""
    from hf_vipriors.models import VipriorsConfig

    def make(backbone: str = "resnet18", *, image_size: int = 32, classes: int = 4, **options):
        options.setdefault("backbone_args", TINY if backbone == "resnet18" else {})
        names = [f"class{i}" for i in range(classes)]
        return VipriorsConfig.for_backbone(backbone, image_size=image_size, class_names=names, **options)

    return make


@pytest.fixture
def assert_trained():
    """``assert_trained(before, module, moves=..., stays=...)``: every parameter that should move has, no other one."""

    def check(before: dict[str, torch.Tensor], module: torch.nn.Module, *, stays: tuple[str, ...] = ()) -> None:
        after = dict(module.named_parameters())
        assert before.keys() == after.keys() and after
        for name, old in before.items():
            same = torch.equal(old, after[name])
            if name.startswith(stays) if stays else False:
                assert same, f"{name} must not move"
            else:
                assert not same, f"{name} has not moved"

    return check


@pytest.fixture
def steps():
    """``steps(method, inputs, optimizer)``: three optimizer steps. One is not enough to move every parameter: timm
    starts the last batch norm of each block at zero, so what lies before it gets no gradient yet."""

    def run(method: torch.nn.Module, inputs: dict, optimizer: torch.optim.Optimizer, count: int = 3) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            method(**inputs).loss.backward()
            optimizer.step()

    return run


@pytest.fixture
def snapshot():
    """``snapshot(module)``: a copy of every parameter by name."""
    return lambda module: {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.fixture
def deadline():
    """A test that waits for ever ends after a minute, and all tests with it: no thread that hangs can be freed."""
    signal.alarm(60)
    yield
    signal.alarm(0)
