from types import SimpleNamespace

import pytest
import torch

from hf_vipriors.errors import InputError
from hf_vipriors.training import TeacherArguments
from hf_vipriors.training.sharding import check_sharding

WORKS = {"FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT", "FSDP_AUTO_WRAP_POLICY": "NO_WRAP"}


@pytest.fixture
def asked(monkeypatch):
    """``asked(FSDP_VERSION="1")``: the arguments of a run that accelerate launches with these settings."""

    def make(**settings):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
        for name, value in ({"ACCELERATE_USE_FSDP": "true"} | WORKS | settings).items():
            monkeypatch.setenv(name, value)
        return SimpleNamespace(fsdp=None, fsdp_config=None, fsdp_plugin_args=None, use_cpu=False)

    return make


def test_what_works_passes(asked):
    check_sharding(asked())
    blocks = {"FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_TRANSFORMER_CLS_TO_WRAP": "Block"}
    check_sharding(asked(**blocks))


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"FSDP_VERSION": "1"}, "fsdp_version must be 2"),
        ({"FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}, "fsdp_state_dict_type must be FULL_STATE_DICT"),
        ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, "fsdp_cpu_ram_efficient_loading must be false"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "fsdp_activation_checkpointing must be false"),
        ({"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "fsdp_auto_wrap_policy must be NO_WRAP"),
    ],
)
def test_what_does_not_is_named(asked, setting, named):
    with pytest.raises(InputError, match=named):
        check_sharding(asked(**setting))


def test_on_a_cpu_nothing_would_be_sharded(tmp_path, monkeypatch):
    """accelerate would train with DDP there and say nothing."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="over accelerators only"):
        TeacherArguments(output_dir=str(tmp_path), use_cpu=True)
