import pytest
import torch
from torch.nn import functional as F
from transformers import ViTConfig, ViTForImageClassification, ViTModel

from hf_vipriors.backbones import TransformersBackbone
from hf_vipriors.methods import FrozenTeacher, embedding_dim
from hf_vipriors.methods.frozen_teacher import Renormalise
from hf_vipriors.models import (
    ExternalForImageClassification,
    ExternalModel,
    VipriorsConfig,
    VipriorsForImageClassification,
    VipriorsModel,
)

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
OTHER_MEAN, OTHER_STD = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]


def normalised(pixels, mean, std):
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def images(count=3, size=32):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def frozen(model):
    return FrozenTeacher(model, model.config.image_mean, model.config.image_std)


@pytest.fixture
def vit():
    """The smallest transformers ViT, as a network of somebody else."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    return ViTConfig(image_size=32, patch_size=8, num_labels=5, **sizes)


# Renormalise


def test_the_same_images_in_other_statistics():
    config = VipriorsConfig(image_mean=OTHER_MEAN, image_std=OTHER_STD)
    pixels = torch.rand(2, 3, 5, 5)
    got = Renormalise(MEAN, STD, config, None)(normalised(pixels, MEAN, STD))
    torch.testing.assert_close(got, normalised(pixels, OTHER_MEAN, OTHER_STD))


@pytest.mark.parametrize(("mean", "std"), [(MEAN, OTHER_STD), (OTHER_MEAN, STD)])
def test_one_of_the_two_statistics_may_differ(mean, std):
    pixels = torch.rand(2, 3, 5, 5)
    got = Renormalise(MEAN, STD, VipriorsConfig(image_mean=mean, image_std=std), None)(normalised(pixels, MEAN, STD))
    torch.testing.assert_close(got, normalised(pixels, mean, std))


def test_nothing_is_done_where_both_agree():
    prepared = Renormalise(MEAN, STD, VipriorsConfig(image_mean=MEAN, image_std=STD), 32)
    same = images()
    assert prepared(same) is same


def test_resized_to_the_only_size_that_is_taken():
    prepared = Renormalise(MEAN, STD, VipriorsConfig(image_mean=MEAN, image_std=STD), 32)
    big = images(size=64)
    want = F.interpolate(big, size=32, mode="bilinear", antialias=True)
    torch.testing.assert_close(prepared(big), want)
    assert prepared(images(size=16)).shape == (3, 3, 32, 32)


def test_is_no_state_of_a_checkpoint_and_follows_to():
    prepared = Renormalise(OTHER_MEAN, STD, VipriorsConfig(image_mean=MEAN, image_std=STD), None)
    assert not prepared.state_dict()
    assert prepared.double()(images().double()).dtype == torch.float64


# FrozenTeacher


def test_embedding_is_the_projection_where_there_is_a_projector(embedder):
    model = embedder(projector_dim=6)
    teacher = frozen(model)
    got = teacher.embedding(images())
    torch.testing.assert_close(got, model.projector(model.features(images())))
    assert got.shape == (3, 6) and teacher.embedding_dim == embedding_dim(model) == 6


def test_embedding_is_the_pooled_features_without_a_projector(embedder, classifiers):
    for model in (embedder(), classifiers()[1]):
        teacher = frozen(model)
        got = teacher.embedding(images())
        torch.testing.assert_close(got, model.features(images()))
        assert got.shape == (3, 16) and teacher.embedding_dim == embedding_dim(model) == 16


@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"])
def test_embedding_dim_is_the_width_that_comes_out(tiny_config, backbone):
    """Also where the head has a hidden layer, wider than the backbone."""
    for kind in (VipriorsModel, VipriorsForImageClassification):
        model = kind(tiny_config(backbone))
        assert frozen(model).embedding(images(2)).shape == (2, embedding_dim(model))


def test_networks_of_other_people(vit):
    config = {"image_size": 32, "image_mean": MEAN, "image_std": STD}
    bare = ExternalModel(TransformersBackbone(ViTModel(vit), image_size=32), VipriorsConfig(backbone="x/y", **config))
    teacher = frozen(bare)
    got = teacher.embedding(images(2, 64))
    assert got.shape == (2, 16) and teacher.embedding_dim == 16 and teacher.num_classes is None
    torch.testing.assert_close(got, bare.features(teacher.prepared(images(2, 64))))
    names = {"id2label": {i: str(i) for i in range(5)}, "label2id": {str(i): i for i in range(5)}}
    network = TransformersBackbone(ViTForImageClassification(vit), image_size=32)
    classifier = frozen(ExternalForImageClassification(network, VipriorsConfig(backbone="x/y", **config, **names)))
    pooled, logits = classifier.pooled_and_logits(images(2))
    assert pooled.shape == (2, 16) and logits.shape == (2, 5) and classifier.num_classes == 5
    torch.testing.assert_close(logits, classifier.model(images(2)).logits)


def test_pooled_features_and_logits_of_a_classifier_in_one_pass(classifiers):
    _, model = classifiers()
    teacher, calls = frozen(model), []
    model.backbone.conv1.register_forward_hook(lambda *_: calls.append(1))
    pooled, logits = teacher.pooled_and_logits(images())
    assert len(calls) == 1 and teacher.num_classes == 4
    torch.testing.assert_close(pooled, model.features(images()))
    torch.testing.assert_close(logits, model(images()).logits)


def test_a_self_supervised_teacher_has_no_answers(embedder):
    model = embedder(projector_dim=6)
    pooled, logits = frozen(model).pooled_and_logits(images())
    assert logits is None and frozen(model).num_classes is None
    torch.testing.assert_close(pooled, model.features(images()))


def test_what_a_teacher_gives_carries_no_gradient_not_even_to_the_images(classifiers, embedder):
    batch = images().requires_grad_()
    assert not frozen(embedder(projector_dim=6)).embedding(batch).requires_grad
    pooled, logits = frozen(classifiers()[1]).pooled_and_logits(batch)
    assert not pooled.requires_grad and not logits.requires_grad


def test_a_teacher_sees_the_images_in_its_own_statistics(classifiers, embedder):
    pixels = torch.rand(3, 3, 32, 32)
    for model in (classifiers(image_mean=OTHER_MEAN, image_std=OTHER_STD)[1], embedder(projector_dim=6)):
        model.config.image_mean, model.config.image_std = OTHER_MEAN, OTHER_STD
        teacher, own = FrozenTeacher(model, MEAN, STD), frozen(model)
        student_view, own_view = normalised(pixels, MEAN, STD), normalised(pixels, OTHER_MEAN, OTHER_STD)
        torch.testing.assert_close(teacher.embedding(student_view), own.embedding(own_view), rtol=1e-4, atol=1e-5)
        got, want = teacher.pooled_and_logits(student_view), own.pooled_and_logits(own_view)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(own.pooled_and_logits(student_view)[0], got[0], atol=1e-3)


def test_is_held_but_not_owned(classifiers, watched):
    _, model = classifiers()
    untouched = watched(model)
    teacher = frozen(model)
    teacher.train()
    teacher.pooled_and_logits(images())
    teacher.embedding(images())
    untouched(teacher)
    assert not list(teacher.parameters()) and not teacher.state_dict()
    teacher.double()
    assert {p.dtype for p in model.parameters()} == {torch.float64}
