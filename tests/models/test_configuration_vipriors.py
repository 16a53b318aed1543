"""VipriorsConfig: what it takes from timm, what it refuses, and that a file changes nothing."""

import pytest
from transformers import AutoConfig

from hf_vipriors.errors import InputError
from hf_vipriors.models import VipriorsConfig


def test_for_backbone_takes_timms_statistics():
    config = VipriorsConfig.for_backbone("vit_tiny_patch16_224", image_size=48, class_names=["cat", "dog", "owl"])
    assert (config.backbone, config.image_size, config.backbone_args) == ("vit_tiny_patch16_224", 48, None)
    assert (config.image_mean, config.image_std) == ([0.5] * 3, [0.5] * 3)
    assert (config.interpolation, config.crop_pct) == ("bicubic", 0.9)
    assert config.num_labels == 3 and config.id2label[2] == "owl" and config.label2id["dog"] == 1
    assert config.projector_dim is None


def test_for_backbone_arguments_win_over_timms():
    config = VipriorsConfig.for_backbone(
        "resnet18", image_size=64, crop_pct=0.875, image_mean=[0, 0, 1], projector_dim=128, num_labels=7
    )
    assert (config.crop_pct, config.image_mean) == (0.875, [0.0, 0.0, 1.0])
    assert (config.projector_dim, config.num_labels) == (128, 7)


def test_a_file_changes_nothing(tmp_path):
    config = VipriorsConfig.for_backbone(
        "resnet18",
        image_size=64,
        backbone_args={"channels": (16, 32, 64, 128), "stem_type": "deep", "stem_width": 8},
        class_names=["a", "b"],
        projector_dim=16,
        projector_hidden_dim=32,
        projector_batch_norm=True,
    )
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(again, VipriorsConfig)
    ours, theirs = config.to_dict(), again.to_dict()
    assert {key for key in ours if ours[key] != theirs[key]} <= {"_name_or_path"}
    assert again.backbone_args["channels"] == [16, 32, 64, 128]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_size": 0}, "image_size"),
        ({"projector_dim": 0}, "projector_dim"),
        ({"projector_hidden_dim": -1}, "projector_hidden_dim"),
        ({"projector_hidden_dim": 0, "projector_batch_norm": True}, "no room for a batch norm"),
        ({"crop_pct": 0.0}, "crop_pct"),
        ({"crop_pct": 87.5}, "crop_pct"),
        ({"class_names": ["a", "b", "a"]}, "'a' stands there twice"),
        ({"backbone": "resnet19"}, "resnet18"),
    ],
)
def test_refused(arguments, words):
    with pytest.raises(InputError, match=words) as error:
        VipriorsConfig.for_backbone(**{"backbone": "resnet18", "image_size": 64, **arguments})
    assert "\n" not in error.value.on_command_line
