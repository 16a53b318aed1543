"""The CIFAR networks: sizes of the distillation literature, timm's interface, stage taps, checkpoints."""

import subprocess
import sys

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from hf_vipriors.backbones import StageTaps, create_backbone, feature_dim, has_fixed_size, is_ours, normalisation
from hf_vipriors.backbones.cifar_resnet import CifarWideResNet
from hf_vipriors.errors import InputError
from hf_vipriors.hub.native_export import export_native, load_native
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel


def wide(width: int) -> str:
    return f"stem 16 32 -, layer1 {16 * width} 32 -, layer2 {32 * width} 16 -, layer3 {64 * width} 8 -"


def resnet(blocks: int, *channels: int) -> str:
    sides = (32, 32, 16, 8)
    norms = ("stem.1", *(f"layer{i}.{blocks - 1}.bn2" for i in (1, 2, 3)))
    names = ("stem", "layer1", "layer2", "layer3")
    return ", ".join(f"{n} {c} {s} {norm}" for n, c, s, norm in zip(names, channels, sides, norms, strict=True))


# Parameters for 100 classes, and every map as "name channels side norm" with the norm in front of the ReLU that ends
# it, or "-" where the map does not end so.
ZOO = {
    "wrn_16_1": (180916, wide(1)),
    "wrn_16_2": (703284, wide(2)),
    "wrn_16_4": (2772020, wide(4)),
    "wrn_16_8": (11007540, wide(8)),
    "wrn_28_2": (1479220, wide(2)),
    "wrn_28_10": (36536884, wide(10)),
    "wrn_40_1": (569780, wide(1)),
    "wrn_40_2": (2255156, wide(2)),
    "resnet8": (83892, resnet(1, 16, 16, 32, 64)),
    "resnet20": (278324, resnet(3, 16, 16, 32, 64)),
    "resnet32": (472756, resnet(5, 16, 16, 32, 64)),
    "resnet56": (861620, resnet(9, 16, 16, 32, 64)),
    "resnet110": (1736564, resnet(18, 16, 16, 32, 64)),
    "resnet8x4": (1233540, resnet(1, 32, 64, 128, 256)),
    "resnet32x4": (7433860, resnet(5, 32, 64, 128, 256)),
    "vgg8": (
        3965028,
        "stem 64 32 stem.0.1, layer1 128 16 layer1.1.1, layer2 256 8 layer2.1.1, layer3 512 4 layer3.1.1, "
        "layer4 512 4 layer4.0.1",
    ),
    "vgg13": (
        9462180,
        "stem 64 32 stem.1.1, layer1 128 16 layer1.2.1, layer2 256 8 layer2.2.1, layer3 512 4 layer3.2.1, "
        "layer4 512 4 layer4.1.1",
    ),
    "resnet50": (
        23705252,
        "stem 64 32 stem.1, layer1 256 32 layer1.2.bn3, layer2 512 16 layer2.3.bn3, layer3 1024 8 layer3.5.bn3, "
        "layer4 2048 4 layer4.2.bn3",
    ),
    "mobilenetv2_half": (
        812836,
        "stem 16 16 stem.1, layer1 12 16 -, layer2 16 8 -, layer3 48 4 -, layer4 160 2 -",
    ),
    "shufflenet_v1": (
        949258,
        "stem 24 32 stem.1, layer1 240 16 layer1.3.bn3, layer2 480 8 layer2.7.bn3, layer3 960 4 layer3.3.bn3",
    ),
    "shufflenet_v2": (1355528, "stem 24 32 stem.1, layer1 116 16 -, layer2 232 8 -, layer3 464 4 -"),
}
WIDTHS = {"mobilenetv2_half": 1280, "shufflenet_v2": 1024}  # of the final features, where a 1x1 convolution follows
# One of each kind is enough where the depth makes no difference.
KINDS = ["wrn_16_2", "resnet8", "vgg8", "mobilenetv2_half", "shufflenet_v1", "shufflenet_v2"]

every = pytest.mark.parametrize("name", ZOO)
each_kind = pytest.mark.parametrize("name", KINDS)


def build(name: str, size: int = 32, classes: int = 5, **arguments) -> nn.Module:
    return create_backbone(f"cifar_{name}", image_size=size, num_classes=classes, backbone_args=arguments)


def images(batch: int = 2, size: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_the_zoo_is_complete_and_ours():
    assert set(timm.list_models(module="cifar_zoo")) == {f"cifar_{name}" for name in ZOO}
    assert all(is_ours(f"cifar_{name}") for name in ZOO)
    assert not any(is_ours(name) for name in ("resnet50", "cifar_resnet21", "resnet8"))
    with pytest.raises(InputError, match="cifar_resnet20"):
        create_backbone("cifar_resnet21", image_size=32)


@every
def test_parameters_and_maps_are_those_of_the_literature(name):
    parameters, stages = ZOO[name]
    model = timm.create_model(f"cifar_{name}").eval()  # 100 classes by default
    assert sum(p.numel() for p in model.parameters()) == parameters
    expected = [row.split() for row in stages.split(", ")]
    with torch.no_grad():
        final, maps = model.forward_intermediates(images(1))
        logits = model(images(1))
        assert torch.equal(model.forward_head(final), logits) and logits.shape == (1, 100)
    assert [tuple(map_.shape) for map_ in maps] == [(1, int(c), int(s), int(s)) for _, c, s, _ in expected]
    assert final.shape[1] == model.num_features == feature_dim(model) == WIDTHS.get(name, int(expected[-1][1]))
    info = [(entry["module"], entry["num_chs"], 32 // entry["reduction"]) for entry in model.feature_info]
    assert info == [(module, int(c), int(s)) for module, c, s, _ in expected]


@pytest.mark.parametrize(
    ("name", "parameters"), [("wrn_16_8", 10961370), ("wrn_28_2", 1467610), ("wrn_28_10", 36479194)]
)
def test_parameters_for_ten_classes(name, parameters):
    """11.0, 1.5 and 36.5 million, as tables of CIFAR-10 have them."""
    with torch.device("meta"):
        model = timm.create_model(f"cifar_{name}", num_classes=10)
    assert sum(p.numel() for p in model.parameters()) == parameters


@every
def test_stage_taps(name, as_trained):
    model = as_trained(build(name))
    taps = StageTaps(model, 32, max_stages=9)
    modules = {module: path for path, module in model.named_modules()}
    found = [f"{s.name} {s.channels} {s.side} {'-' if s.norm is None else modules[s.norm]}" for s in taps.stages]
    assert ", ".join(found) == ZOO[name][1]
    with torch.no_grad():
        maps, final = taps(images())
        assert torch.equal(model.forward_head(final), model(images()))
        _, outputs = model.forward_intermediates(images())
    for stage, map_, output in zip(taps.stages, maps, outputs, strict=True):
        # Only ShuffleNetV2 ends its stages behind ReLUs that stage taps cannot reach: two of them, then a shuffle.
        assert (map_.min() < 0) == (stage.norm is not None or name != "shufflenet_v2")
        assert torch.equal(output, map_ if stage.norm is None else map_.relu())
    assert [stage.name for stage in StageTaps(model, 32).stages] == [stage.name for stage in taps.stages][-4:]


@every
def test_gradients_reach_every_parameter(name):
    model = build(name)
    (model(images(4)) * torch.linspace(-1, 1, 5)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not 0 < p.grad.norm() < 1e6] == []


@each_kind
@pytest.mark.parametrize("size", [28, 48, 64])
def test_other_image_sizes(name, size):
    model = build(name, size).eval()
    with torch.no_grad():
        final, maps = model.forward_intermediates(images(1, size))
        assert model(images(1, size)).shape == (1, 5)
        assert torch.equal(model.forward_head(final), model(images(1, size)))
    if size % 16 == 0:
        assert [map_.shape[2] for map_ in maps] == [size // info["reduction"] for info in model.feature_info]
    assert [stage.side for stage in StageTaps(model, size).stages] == [map_.shape[2] for map_ in maps][-4:]


@pytest.mark.parametrize("name", [*KINDS, "resnet50"])
def test_features_only(name):
    whole = build(name).eval()
    model = timm.create_model(f"cifar_{name}", features_only=True).eval()
    model.load_state_dict({key: value for key, value in whole.state_dict().items() if key in model.state_dict()})
    assert not any(key.startswith(("norm", "conv_head", "head")) for key in model.state_dict())
    with torch.no_grad():
        expected = whole.forward_intermediates(images(), intermediates_only=True)
        maps = model(images())
    assert len(maps) == len(expected) and all(map(torch.equal, maps, expected))
    assert model.feature_info.channels() == [map_.shape[1] for map_ in maps]
    assert model.feature_info.module_name() == [info["module"] for info in whole.feature_info]


@each_kind
@pytest.mark.parametrize("feature_cls", ["list", "hook", "getter"])
def test_features_only_of_some_maps(name, feature_cls):
    model = timm.create_model(f"cifar_{name}", features_only=True, out_indices=(1, 2), feature_cls=feature_cls).eval()
    rows = [row.split() for row in ZOO[name][1].split(", ")][1:3]
    with torch.no_grad():
        assert [tuple(map_.shape[1:3]) for map_ in model(images())] == [(int(c), int(s)) for _, c, s, _ in rows]
    assert model.feature_info.channels() == [int(c) for _, c, _, _ in rows]


@each_kind
@torch.no_grad()
def test_forward_intermediates(name, as_trained):
    model = as_trained(build(name))
    final, maps = model.forward_intermediates(images())
    assert torch.equal(final, model.forward_features(images()))
    for indices, expected in ((2, maps[-2:]), ([0, -1], [maps[0], maps[-1]]), ((1,), maps[1:2])):
        assert all(map(torch.equal, model.forward_intermediates(images(), indices)[1], expected))
    cut, taken = model.forward_intermediates(images(), [1], stop_early=True)
    assert torch.equal(cut, maps[1]) and torch.equal(taken[0], maps[1])
    cut, taken = model.forward_intermediates(images(), [0, 2], stop_early=True)
    assert torch.equal(cut, maps[2]) and all(map(torch.equal, taken, [maps[0], maps[2]]))
    whole, _ = model.forward_intermediates(images(), 1, stop_early=True)
    assert torch.equal(whole, final)
    assert torch.equal(model.forward_intermediates(images(), 1, intermediates_only=True)[0], maps[-1])
    for indices in (0, 9, [9], [-9], []):
        with pytest.raises(ValueError, match=f"{len(maps)} maps"):
            model.forward_intermediates(images(), indices)
    with pytest.raises(ValueError, match="NCHW"):
        model.forward_intermediates(images(), output_fmt="NLC")


def test_stop_early_runs_nothing_behind_the_last_map(monkeypatch):
    model = build("resnet8")
    monkeypatch.setattr(model.layer3, "forward", None)
    model.forward_intermediates(images(), [1, 2], stop_early=True)
    with pytest.raises(TypeError):
        model.forward_intermediates(images(), [1, 2])


@each_kind
@torch.no_grad()
def test_pruning(name, as_trained):
    model = as_trained(build(name))
    maps = model.forward_intermediates(images(), intermediates_only=True)
    assert model.prune_intermediate_layers([0, -3]) == [0, len(maps) - 3]
    rest = {parameter.split(".")[0] for parameter, _ in model.named_parameters()}
    assert rest == {"stem", *(f"layer{i}" for i in range(1, len(maps) - 2))}
    assert torch.equal(model.forward_intermediates(images(), [-3], intermediates_only=True)[0], maps[-3])
    assert model(images()).shape == (2, model.num_features) == (2, maps[-3].shape[1])


@each_kind
@torch.no_grad()
def test_classifier(name):
    model = build(name).eval()
    features = model.forward_head(model.forward_features(images()), pre_logits=True)
    assert features.shape == (2, model.head_hidden_size)
    torch.testing.assert_close(model.get_classifier()(features), model(images()))
    model.reset_classifier(7)
    assert model(images()).shape == (2, 7) and model.num_classes == 7
    assert torch.equal(model.forward_head(model.forward_features(images()), pre_logits=True), features)
    model.reset_classifier(0)
    assert torch.equal(model(images()), features)
    model.reset_classifier(3, "catavgmax")
    assert model(images()).shape == (2, 3) and model.head_hidden_size == 2 * model.num_features


@each_kind
def test_timm_arguments(name):
    model = timm.create_model(f"cifar_{name}", num_classes=0, in_chans=1, global_pool="max", drop_rate=0.5)
    assert model(images(channels=1)).shape == (2, model.num_features)
    assert not isinstance(model.get_classifier(), nn.Linear) and model.in_chans == 1
    model = timm.create_model(f"cifar_{name}", num_classes=0, global_pool="")
    assert model(images()).shape == model.forward_features(images()).shape


@every
def test_default_cfg(name):
    mean, std, interpolation, crop_pct = normalisation(f"cifar_{name}")
    assert (mean, std) == ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616])
    assert (interpolation, crop_pct) == ("bilinear", 1.0)
    assert not has_fixed_size(f"cifar_{name}")
    with torch.device("meta"):
        model = timm.create_model(f"cifar_{name}")
    assert model.default_cfg["input_size"] == (3, 32, 32) and model.num_classes == 100
    assert model.get_submodule(model.default_cfg["first_conv"]).in_channels == 3
    assert model.get_submodule(model.default_cfg["classifier"]) is model.get_classifier()


def test_no_weights_to_download():
    with pytest.raises(RuntimeError, match="pretrained"):
        timm.create_model("cifar_resnet8", pretrained=True)


@each_kind
def test_layer_wise_learning_rates_grow_with_depth(name):
    model = build(name)
    groups = param_groups_layer_decay(model, layer_decay=0.5)
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert len(scale) == len(list(model.parameters()))
    scales = {}
    for parameter, tensor in model.named_parameters():
        scales.setdefault(parameter.split(".")[0], []).append(scale[id(tensor)])
    last = [scales[part] for part in scales]  # in the order of the forward pass
    assert all(max(a) <= min(b) for a, b in zip(last, last[1:], strict=False)) and scales["head"] == [1.0, 1.0]
    assert len(set(scale.values())) > len(model.feature_info)
    # What follows the last stage without a depth of its own learns as fast as that stage.
    for part in scales.keys() & {"norm", "conv_head"}:
        assert set(scales[part]) == {max(scales[model.feature_info[-1]["module"]])}


@each_kind
def test_checkpointed_gradients_are_the_same(name):
    model = build(name)
    runs = []
    model.layer2.register_forward_pre_hook(lambda module, inputs: runs.append(len(grads)))
    grads = []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        model(images(4)).square().sum().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    assert runs == [0, 1, 1], "with checkpoints the backward pass computes the stage again"
    for plain, checkpointed in zip(*grads, strict=True):
        torch.testing.assert_close(checkpointed, plain)


@pytest.mark.parametrize("name", ["wrn_16_2", "shufflenet_v1"])
def test_torch_compile_without_a_graph_break(name):
    taps = StageTaps(build(name).eval(), 32)
    compiled = torch.compile(lambda x: taps(x), backend="eager", fullgraph=True)
    with torch.no_grad():
        (maps, final), (expected_maps, expected) = compiled(images()), taps(images())
    torch.testing.assert_close([*maps, final], [*expected_maps, expected])


@each_kind
def test_channels_last_gives_the_same(name, as_trained):
    model = as_trained(build(name))
    with torch.no_grad():
        expected = model(images())
        model = model.to(memory_format=torch.channels_last)
        torch.testing.assert_close(model(images().to(memory_format=torch.channels_last)), expected)


def test_initial_signal_keeps_its_size():
    # Kaiming's fan-out: the logits of a fresh network neither vanish nor explode with the depth.
    for name in ZOO:
        assert 0.01 < build(name)(images(8)).std() < 10, name


def test_depth_of_a_wide_resnet_must_fit():
    for depth in (4, 18, 3):
        with pytest.raises(ValueError, match="6n \\+ 4"):
            CifarWideResNet(depth=depth)
    with pytest.raises(InputError, match="6n \\+ 4"):
        build("wrn_16_1", depth=17)


def test_recipes_may_change_a_network():
    small = build("resnet8", channels=[4, 4, 8, 16])
    assert small.num_features == 16
    assert build("wrn_16_2", width=1).num_features == 64
    with pytest.raises(InputError, match="widht"):
        build("wrn_16_2", widht=1)


@each_kind
@pytest.mark.parametrize("kind", [VipriorsModel, VipriorsForImageClassification])
def test_saved_and_loaded(name, kind, as_trained, tmp_path):
    config = VipriorsConfig.for_backbone(f"cifar_{name}", image_size=32, class_names=["cat", "dog"], projector_dim=8)
    model = kind(config)
    as_trained(model.backbone)
    model.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path)
    assert not again.training and again.config.image_mean == [0.4914, 0.4822, 0.4465]
    assert torch.equal(again.features(images()), model.eval().features(images()))


def test_a_student_takes_the_backbone_of_a_teacher():
    config = VipriorsConfig.for_backbone("cifar_resnet8", image_size=32, class_names=["cat", "dog"], projector_dim=8)
    teacher, student = VipriorsModel(config).eval(), VipriorsForImageClassification(config).eval()
    student.load_backbone_from(teacher)
    assert torch.equal(student.features(images()), teacher.features(images()))


def test_exported_in_a_process_that_knows_the_network(as_trained, tmp_path):
    config = VipriorsConfig.for_backbone("cifar_resnet8", image_size=32, class_names=["cat", "dog"])
    student = VipriorsForImageClassification(config)
    as_trained(student.backbone)
    folder = export_native(student, tmp_path / "student")
    logits = student.eval()(images()).logits
    assert torch.equal(load_native(folder)(images()).logits, logits)
    assert torch.equal(timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(images()), logits)


@pytest.mark.slow
def test_timm_alone_does_not_know_them_and_one_import_is_enough():
    program = (
        "import timm; assert not timm.is_model('cifar_resnet8'); "
        "import hf_vipriors; assert timm.is_model('cifar_resnet8')"
    )
    subprocess.run([sys.executable, "-W", "error::UserWarning:timm", "-c", program], check=True)
