import torch

from hf_vipriors.training import TeacherArguments


def test_bf16_on_a_machine_without_an_accelerator_runs_on_its_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert TeacherArguments(output_dir=str(tmp_path), bf16=True).use_cpu
    assert not TeacherArguments(output_dir=str(tmp_path)).use_cpu
