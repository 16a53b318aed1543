"""Transformers models as teachers of ours: what their image processor does, what cannot be done with them."""

import pytest
import torch
import transformers as t

from hf_vipriors.backbones import TransformersBackbone
from hf_vipriors.errors import InputError
from hf_vipriors.models import (
    ExternalForImageClassification,
    ExternalModel,
    VipriorsConfig,
    VipriorsForImageClassification,
    VipriorsModel,
    preprocessing,
)

VIT = t.ViTConfig(
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=32,
    patch_size=8,
    id2label={0: "cat", 1: "dog", 2: "owl"},
)
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def teacher(kind=ExternalModel):
    torch.manual_seed(0)
    config = VipriorsConfig(backbone="somebody/vit", image_size=32, id2label=VIT.id2label, label2id=VIT.label2id)
    source = t.ViTForImageClassification if kind is ExternalForImageClassification else t.ViTModel
    return kind(TransformersBackbone(source(VIT).eval(), 32), config)


def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_a_model_without_classifier():
    model = teacher()
    output = model(images())
    expected = model.backbone.model(pixel_values=images()).last_hidden_state[:, 0]
    torch.testing.assert_close(output.pooled, expected)
    assert output.projection is None and torch.equal(model.features(images()), output.pooled)
    assert isinstance(model, VipriorsModel) and model.fixed_size


@torch.no_grad()
def test_a_classifier():
    model = teacher(ExternalForImageClassification)
    output = model(images(), labels=torch.tensor([0, 2]))
    torch.testing.assert_close(output.logits, model.backbone.model(pixel_values=images()).logits)
    assert output.loss.ndim == 0 and model.features(images()).shape == (2, 16)
    assert isinstance(model, VipriorsForImageClassification) and model.fixed_size
    assert model.num_labels == model.config.num_labels == 3 and model.config.id2label[2] == "owl"


@pytest.mark.parametrize("kind", [ExternalModel, ExternalForImageClassification])
def test_they_are_neither_saved_nor_a_start(kind, tmp_path):
    student = VipriorsForImageClassification(VipriorsConfig.for_backbone("test_vit", image_size=32))
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    for what, words in (
        (lambda: teacher(kind).save_pretrained(tmp_path / "x"), "saved"),
        (lambda: teacher(kind).push_to_hub("me/x"), "published"),
        (lambda: student.load_backbone_from(teacher(kind)), "start of a student"),
    ):
        with pytest.raises(InputError, match="'somebody/vit' is a teacher from transformers") as error:
            what()
        assert words in error.value.on_command_line and "\n" not in error.value.on_command_line
    assert not (tmp_path / "x").exists()
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (
            t.ViTImageProcessor(size={"height": 48, "width": 48}),
            {"image_size": 48, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "crop_pct": 1.0},
        ),
        (
            t.BitImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}, **IMAGENET),
            {"image_size": 56, **IMAGENET, "crop_pct": 0.875, "interpolation": "bicubic"},
        ),
        (
            t.ConvNextImageProcessor(size={"shortest_edge": 56}, crop_pct=0.875, resample=2, **IMAGENET),
            {"image_size": 56, **IMAGENET, "crop_pct": 0.875, "interpolation": "bilinear"},
        ),
        (
            t.ViTImageProcessor(size={"height": 32, "width": 32}, do_normalize=False),
            {"image_size": 32, "image_mean": [0.0] * 3, "image_std": [1.0] * 3},
        ),
        (
            # raw pixels: statistics of values in 0..1 all the same
            t.ViTImageProcessor(size={"height": 32, "width": 32}, do_normalize=False, do_rescale=False),
            {"image_size": 32, "image_mean": [0.0] * 3, "image_std": [round(1 / 255, 5)] * 3},
        ),
    ],
)
def test_preprocessing_is_measured(processor, expected):
    found = preprocessing(processor)
    assert {name: found[name] for name in expected} == expected
    VipriorsConfig(**found)


def test_a_pyramids_processor_takes_the_whole_image_at_384():
    found = preprocessing(t.ConvNextImageProcessor(size={"shortest_edge": 384}, crop_pct=0.875))
    assert (found["image_size"], found["crop_pct"]) == (384, 1.0)


@pytest.mark.parametrize(
    ("processor", "words"),
    [
        (t.ViTImageProcessor(do_resize=False), "square size"),
        (t.ViTImageProcessor(size={"height": 32, "width": 48}), "square size"),
        (t.MobileViTImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}), "colours"),
    ],
)
def test_what_a_teacher_could_not_be_given(processor, words):
    with pytest.raises(InputError, match=words):
        preprocessing(processor)
