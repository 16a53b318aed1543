from __future__ import annotations

import os
import sys
from pathlib import Path

# Offline, quiet and one thread a process: the tests run side by side on two cores.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings
from safetensors import safe_open

sys.path.insert(0, str(Path(__file__).parent))  # for the package hub_server, a Hub on loopback
from hub_server.fixtures import hub, hub_here, waits  # noqa: F401

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


@pytest.fixture
def oracle():
    """Read one case of the published programs' values: ``oracle("ofd")["student"]``. Nothing ever writes the file."""

    def read(case: str) -> dict[str, torch.Tensor]:
        with safe_open(FIXTURES / "published_losses.safetensors", "pt") as file:
            names = [name for name in file.keys() if name.startswith(f"{case}.")]
            assert names, f"no case {case}"
            return {name.removeprefix(f"{case}."): file.get_tensor(name) for name in names}

    return read


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
