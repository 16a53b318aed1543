import pytest
import torch

from hf_vipriors.errors import InputError
from hf_vipriors.training import TeacherArguments


def test_bf16_on_a_machine_without_an_accelerator_runs_on_its_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert TeacherArguments(output_dir=str(tmp_path), bf16=True).use_cpu
    assert not TeacherArguments(output_dir=str(tmp_path)).use_cpu


@pytest.mark.parametrize("option", [{"even_batches": False}, {"split_batches": True}])
def test_processes_never_hold_different_numbers_of_images(tmp_path, option):
    with pytest.raises(InputError, match="as many images on every process"):
        TeacherArguments(output_dir=str(tmp_path), use_cpu=True, accelerator_config=option)
