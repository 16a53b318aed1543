"""``from_pretrained`` gives the weights of the folder or an error, never random ones."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ResNetConfig

from hf_vipriors.errors import InputError
from hf_vipriors.hub.native_export import export_native
from hf_vipriors.models import VipriorsForImageClassification, VipriorsModel


def refused(kind, folder, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        kind.from_pretrained(folder)
    assert "\n" not in error.value.on_command_line


def test_a_folder_without_a_config(tmp_path):
    refused(VipriorsModel, tmp_path, "no config.json")


def test_a_model_of_another_kind(tmp_path):
    ResNetConfig().save_pretrained(tmp_path)
    refused(VipriorsModel, tmp_path, "no model of hf_vipriors .model_type 'resnet'")


def test_a_native_student(tiny_config, tmp_path):
    export_native(VipriorsForImageClassification(tiny_config()), tmp_path)
    refused(VipriorsForImageClassification, tmp_path, "native student")


def test_weights_by_other_names(tiny_config, tmp_path):
    """As a Trainer that knows nothing of our models would save them: every name has a prefix too many."""
    VipriorsModel(tiny_config(projector_dim=8)).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({f"student.{name}": tensor for name, tensor in state.items()}, tmp_path / "model.safetensors")
    refused(VipriorsModel, tmp_path, "no whole checkpoint, it lacks backbone")


def test_a_teacher_lends_its_backbone_to_a_classifier(tiny_config, tmp_path):
    teacher = VipriorsModel(tiny_config(projector_dim=8))
    teacher.save_pretrained(tmp_path)
    student, report = VipriorsForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert sorted(report["missing_keys"]) == ["backbone.fc.bias", "backbone.fc.weight"]
    assert torch.equal(student.backbone.layer1[0].conv1.weight, teacher.backbone.layer1[0].conv1.weight)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "vipriors"
