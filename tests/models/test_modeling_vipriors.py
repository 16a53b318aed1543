"""VipriorsModel and VipriorsForImageClassification as transformers models: fresh, saved, loaded, trained."""

import importlib

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel, AutoModelForImageClassification

import hf_vipriors.models
from hf_vipriors.backbones import create_backbone
from hf_vipriors.errors import InputError
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel

SMALL_RESNET = {"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}
SMALL_SWIN = {"depths": [1, 1, 1, 1], "embed_dim": 32, "num_heads": [1, 2, 4, 8]}
# Most compute buffers that no checkpoint holds: position indices, rotary tables, blur filters, statistics.
NETWORKS = {
    "resnet18": (32, SMALL_RESNET),
    "vit_tiny_patch16_224": (48, {"depth": 1}),
    "swin_tiny_patch4_window7_224": (64, SMALL_SWIN),
    "eva02_tiny_patch14_224": (56, {"depth": 1}),
    "test_vit_relpos": (64, None),
    "levit_128s": (64, None),
    "resnetblur18": (32, SMALL_RESNET),
    "csatv2": (64, None),
}


def small_config(**kwargs) -> VipriorsConfig:
    return VipriorsConfig.for_backbone(
        "resnet18",
        **{"image_size": 32, "backbone_args": SMALL_RESNET, "class_names": ["cat", "dog", "owl"], **kwargs},
    )


def images(batch: int = 4, size: int = 32) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def all_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def as_trained(model: nn.Module, size: int) -> nn.Module:
    """No tensor of the state is what a fresh model would have."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        model.train()(images(size=size))
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=generator), alpha=0.01)
    return model.eval()


@pytest.mark.parametrize(("network", "fixed"), [("resnet18", False), ("vit_tiny_patch16_224", True)])
@pytest.mark.parametrize("kind", [VipriorsModel, VipriorsForImageClassification])
def test_fixed_size(network, fixed, kind):
    size, arguments = NETWORKS[network]
    config = VipriorsConfig.for_backbone(network, image_size=size, backbone_args=arguments)
    assert kind(config).fixed_size is fixed


def test_a_projector_of_one_layer(tmp_path):
    model = VipriorsModel(small_config(projector_dim=16, projector_hidden_dim=0)).eval()
    assert isinstance(model.projector, nn.Linear)
    output = model(images())
    torch.testing.assert_close(output.projection, model.projector(output.pooled))
    model.save_pretrained(tmp_path)
    again, report = VipriorsModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()) and torch.equal(again(images()).projection, output.projection)
    student = VipriorsForImageClassification.from_pretrained(tmp_path)
    assert torch.equal(student.eval().features(images()), output.pooled)


def test_shapes():
    output = VipriorsModel(small_config(projector_dim=16))(images())
    assert output.pooled.shape == (4, 128) and output.projection.shape == (4, 16)
    output = VipriorsModel(small_config())(images())
    assert output.pooled.shape == (4, 128) and output.projection is None
    assert VipriorsForImageClassification(small_config())(images()).logits.shape == (4, 3)


@pytest.mark.parametrize(
    ("arguments", "layers"),
    [
        ({}, ["Linear 128 128", "ReLU", "Linear 128 16"]),
        ({"projector_hidden_dim": 64}, ["Linear 128 64", "ReLU", "Linear 64 16"]),
        (
            {"projector_hidden_dim": 64, "projector_batch_norm": True},
            ["Linear 128 64", "BatchNorm1d 64", "ReLU", "Linear 64 16"],
        ),
    ],
)
def test_projector_layers(arguments, layers):
    widths = {
        nn.Linear: lambda layer: f" {layer.in_features} {layer.out_features}",
        nn.BatchNorm1d: lambda layer: f" {layer.num_features}",
        nn.ReLU: lambda layer: "",
    }
    projector = VipriorsModel(small_config(projector_dim=16, **arguments)).projector
    assert [type(layer).__name__ + widths[type(layer)](layer) for layer in projector] == layers


@pytest.mark.parametrize("network", ["resnet18", "vit_tiny_patch16_224"])
def test_a_fresh_model_has_timms_initial_weights(network):
    size, arguments = NETWORKS[network]
    config = VipriorsConfig.for_backbone(network, image_size=size, backbone_args=arguments, num_labels=3)
    torch.manual_seed(3)
    expected = create_backbone(network, image_size=size, num_classes=3, backbone_args=arguments)
    torch.manual_seed(3)
    model = VipriorsForImageClassification(config)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], tensor), name


@pytest.mark.parametrize("kind", [VipriorsModel, VipriorsForImageClassification])
@pytest.mark.parametrize("network", NETWORKS)
def test_from_pretrained_gives_exactly_what_was_saved(network, kind, tmp_path):
    size, arguments = NETWORKS[network]
    config = VipriorsConfig.for_backbone(
        network,
        image_size=size,
        backbone_args=arguments,
        class_names=["cat", "dog", "owl"],
        projector_dim=8,
        projector_batch_norm=True,
    )
    model = as_trained(kind(config), size)
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert not again.training
    expected, loaded = all_tensors(model), all_tensors(again)
    assert expected.keys() == loaded.keys()
    different = [name for name in expected if not torch.equal(expected[name], loaded[name])]
    assert different == []
    assert torch.equal(model.features(images(size=size)), again.features(images(size=size)))


def test_batch_norm_counters_are_loaded(tmp_path):
    model = as_trained(VipriorsModel(small_config(projector_dim=8, projector_batch_norm=True)), 32)
    model.save_pretrained(tmp_path)
    again = VipriorsModel.from_pretrained(tmp_path)
    assert again.backbone.bn1.num_batches_tracked == again.projector[1].num_batches_tracked == 1


def test_auto_classes_and_importing_twice(tmp_path):
    importlib.reload(hf_vipriors.models)
    VipriorsModel(small_config(projector_dim=8)).save_pretrained(tmp_path / "teacher")
    VipriorsForImageClassification(small_config()).save_pretrained(tmp_path / "student")
    assert isinstance(AutoModel.from_pretrained(tmp_path / "teacher"), VipriorsModel)
    student = AutoModelForImageClassification.from_pretrained(tmp_path / "student")
    assert isinstance(student, VipriorsForImageClassification)
    assert student.config.id2label == {0: "cat", 1: "dog", 2: "owl"}


def test_a_classifier_from_a_teachers_folder_has_a_fresh_classifier(tmp_path, caplog):
    teacher = as_trained(VipriorsModel(small_config(projector_dim=8)), 32)
    teacher.save_pretrained(tmp_path)
    torch.manual_seed(5)
    student, report = VipriorsForImageClassification.from_pretrained(tmp_path, num_labels=7, output_loading_info=True)
    assert report["missing_keys"] == {"backbone.fc.weight", "backbone.fc.bias"} and not report["unexpected_keys"]
    for name, tensor in teacher.backbone.state_dict().items():
        assert torch.equal(student.backbone.state_dict()[name], tensor), name
    torch.manual_seed(5)
    fresh = VipriorsForImageClassification(small_config(class_names=list("abcdefg")))
    assert torch.equal(student.backbone.fc.weight, fresh.backbone.fc.weight)
    assert torch.equal(student.backbone.fc.bias, fresh.backbone.fc.bias)
    assert student.num_labels == 7 and student(images()).logits.shape == (4, 7)


def test_loading_in_bfloat16(tmp_path):
    config = VipriorsConfig.for_backbone(
        "swin_tiny_patch4_window7_224", image_size=64, backbone_args=SMALL_SWIN, projector_dim=8
    )
    model = VipriorsModel(config).eval()
    model.save_pretrained(tmp_path)
    again = VipriorsModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    projection = again(images(size=64).bfloat16()).projection
    assert projection.dtype == torch.bfloat16
    torch.testing.assert_close(projection.float(), model(images(size=64)).projection, rtol=0.1, atol=0.03)


def test_the_loss_is_the_plain_cross_entropy():
    model = VipriorsForImageClassification(small_config()).eval()
    labels = torch.tensor([0, 2, 1, 1])
    output = model(images(), labels=labels)
    expected = -output.logits.log_softmax(1)[torch.arange(4), labels].mean()
    torch.testing.assert_close(output.loss, expected)
    assert model(images()).loss is None


@pytest.mark.parametrize("network", ["resnet18", "vit_tiny_patch16_224", "csatv2"])
def test_features_are_what_the_classifier_sees(network):
    size, arguments = NETWORKS[network]
    config = VipriorsConfig.for_backbone(network, image_size=size, backbone_args=arguments, num_labels=3)
    model = VipriorsForImageClassification(config).eval()
    features = model.features(images(size=size))
    torch.testing.assert_close(model.backbone.get_classifier()(features), model(images(size=size)).logits)
    teacher = VipriorsModel(config).eval()
    teacher.backbone.load_state_dict(model.backbone.state_dict(), strict=False)
    assert torch.equal(teacher.features(images(size=size)), features)
    assert torch.equal(teacher(images(size=size)).pooled, features)


@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_reach_every_parameter(autocast):
    # timm starts the last norm of each block at 0, which would stop the gradients behind it in the first step.
    awake = {"backbone_args": {**SMALL_RESNET, "zero_init_last": False}}
    teacher = VipriorsModel(small_config(projector_dim=8, **awake))
    student = VipriorsForImageClassification(small_config(**awake))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        projection = teacher(images()).projection
        loss = student(images(), labels=torch.tensor([0, 1, 2, 0])).loss
    assert projection.dtype == (torch.bfloat16 if autocast else torch.float32) and loss.dtype == torch.float32
    (projection.float() * torch.linspace(-1, 1, 8)).square().sum().backward()
    loss.backward()
    for model in (teacher, student):
        assert [name for name, p in model.named_parameters() if p.grad is None or not 0 < p.grad.norm() < 1e6] == []


@pytest.mark.parametrize("source_kind", [VipriorsModel, VipriorsForImageClassification])
@pytest.mark.parametrize(
    ("network", "classifier"),
    # shvit's batch norm in front of the classifier exists only with one: it belongs to the classifier.
    [("resnet18", {"fc.weight", "fc.bias"}), ("levit_128s", None), ("shvit_s1", None)],
)
def test_load_backbone_from(network, classifier, source_kind):
    size, arguments = NETWORKS.get(network, (64, None))

    def config(classes: int) -> VipriorsConfig:
        return VipriorsConfig.for_backbone(
            network, image_size=size, backbone_args=arguments, num_labels=classes, projector_dim=8
        )

    source = as_trained(source_kind(config(5)), size)
    student = VipriorsForImageClassification(config(3)).eval()
    before = {name: tensor.clone() for name, tensor in student.backbone.state_dict().items()}
    student.load_backbone_from(source)
    assert torch.equal(student.features(images(size=size)), source.features(images(size=size)))
    kept = {name for name, tensor in student.backbone.state_dict().items() if torch.equal(tensor, before[name])}
    heads = {name for name in before if name.split(".")[0] in ("fc", "head", "head_dist")}
    assert kept & heads == heads and (classifier is None or kept == classifier)


def test_load_backbone_from_another_network():
    student = VipriorsForImageClassification(small_config())
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    wide = VipriorsModel(small_config(backbone_args={**SMALL_RESNET, "channels": [16, 32, 64, 96]}))
    deep = VipriorsModel(VipriorsConfig.for_backbone("resnet34", image_size=32, backbone_args=SMALL_RESNET))
    vit = VipriorsForImageClassification(VipriorsConfig.for_backbone("test_vit", image_size=32))
    for source, words in (
        (wide, "layer4.0.conv1.weight is (96, 64, 3, 3), not (128, 64, 3, 3)"),
        (deep, "layer1.2.conv1.weight too many"),  # all that resnet18 wants is there, with the right shapes
        (vit, "no conv1.0.weight"),
    ):
        with pytest.raises(InputError) as error:
            student.load_backbone_from(source)
        assert words in error.value.on_command_line and source.config.backbone in error.value.on_command_line
        assert "\n" not in error.value.on_command_line and len(error.value.on_command_line) < 600
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


def test_load_backbone_from_another_image_size():
    student = VipriorsForImageClassification(VipriorsConfig.for_backbone("test_vit", image_size=32))
    teacher = VipriorsModel(VipriorsConfig.for_backbone("test_vit", image_size=48))
    with pytest.raises(InputError, match=r"pos_embed is \(1, 10, 64\), not \(1, 5, 64\)"):
        student.load_backbone_from(teacher)


def test_the_saved_names_are_timms_behind_one_prefix(tmp_path):
    VipriorsModel(small_config(projector_dim=8)).save_pretrained(tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    bare = create_backbone("resnet18", image_size=32, backbone_args=SMALL_RESNET)
    assert names == {f"backbone.{name}" for name in bare.state_dict()} | {
        f"projector.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")
    }
