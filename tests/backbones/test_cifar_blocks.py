"""The blocks of the CIFAR networks against the formulas of their papers, written out."""

import pytest
import torch
from torch import nn

from hf_vipriors.backbones import StageTaps, create_backbone
from hf_vipriors.backbones.cifar_mobile import shuffle


@pytest.fixture
def build(as_trained):
    """``build("resnet8")``: a network as after some training."""
    return lambda name: as_trained(create_backbone(f"cifar_{name}", image_size=32, num_classes=5))


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def basic(block, x):
    branch = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
    return (branch + (x if block.downsample is None else block.downsample(x))).relu()


def bottleneck(block, x):
    branch = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu())).relu()
    return (block.bn3(block.conv3(branch)) + (x if block.downsample is None else block.downsample(x))).relu()


def pre_activation(block, x):
    activated = block.bn1(x).relu()
    branch = block.conv2(block.bn2(block.conv1(activated)).relu())
    return branch + (x if block.downsample is None else block.downsample(activated))


def inverted_residual(block, x):
    hidden = block.expand[1](block.expand[0](x)).relu()
    hidden = block.depthwise[1](block.depthwise[0](hidden)).relu()
    branch = block.project[1](block.project[0](hidden))
    return x + branch if branch.shape == x.shape else branch


def shuffle_unit(block, x):
    hidden = block.conv1[1](block.conv1[0](x)).relu()
    groups = block.conv1[0].groups
    hidden = torch.stack(hidden.chunk(groups, 1), 2).flatten(1, 2)
    hidden = block.conv2[1](block.conv2[0](hidden)).relu()
    branch = block.bn3(block.conv3(hidden))
    if branch.shape == x.shape:
        return (branch + x).relu()
    return torch.cat([branch, nn.functional.avg_pool2d(x, 3, stride=2, padding=1)], 1).relu()


def shuffle_branch_v2(branch, x):
    hidden = branch[0][1](branch[0][0](x)).relu()
    hidden = branch[1][1](branch[1][0](hidden))
    return branch[2][1](branch[2][0](hidden)).relu()


def shuffle_unit_v2(block, x):
    halves = x[:, : x.shape[1] // 2], shuffle_branch_v2(block.branch, x[:, x.shape[1] // 2 :])
    return torch.stack(halves, 2).flatten(1, 2)


def shuffle_down_v2(block, x):
    depthwise, pointwise = block.shortcut
    shortcut = pointwise[1](pointwise[0](depthwise[1](depthwise[0](x)))).relu()
    return torch.stack([shortcut, shuffle_branch_v2(block.branch, x)], 2).flatten(1, 2)


@pytest.mark.parametrize(
    ("name", "path", "formula"),
    [
        ("resnet20", "layer1.1", basic),
        ("resnet20", "layer2.0", basic),
        ("resnet50", "layer1.0", bottleneck),
        ("resnet50", "layer2.1", bottleneck),
        ("wrn_16_2", "layer1.0", pre_activation),
        ("wrn_16_2", "layer1.1", pre_activation),
        ("mobilenetv2_half", "layer2.0", inverted_residual),
        ("mobilenetv2_half", "layer2.1", inverted_residual),
        ("shufflenet_v1", "layer1.0", shuffle_unit),
        ("shufflenet_v1", "layer2.0", shuffle_unit),
        ("shufflenet_v1", "layer1.1", shuffle_unit),
        ("shufflenet_v2", "layer1.0", shuffle_down_v2),
        ("shufflenet_v2", "layer1.1", shuffle_unit_v2),
    ],
)
@torch.no_grad()
def test_a_block_computes_its_formula(build, name, path, formula):
    """Every ReLU, shortcut and shuffle spelt out: no parameter count and no shape would notice one missing."""
    model = build(name)
    block = model.get_submodule(path)
    inputs = []
    block.register_forward_pre_hook(lambda module, given: inputs.append(given[0].clone()))
    outputs = []
    block.register_forward_hook(lambda module, given, output: outputs.append(output.clone()))
    model(images())
    torch.testing.assert_close(outputs[0], formula(block, inputs[0]))


@torch.no_grad()
def test_vgg_pools_the_maximum_between_its_stages(build):
    model = build("vgg13")
    maps = model.forward_intermediates(images(), intermediates_only=True)
    pooled = maps[0].unflatten(3, (16, 2)).unflatten(2, (16, 2)).amax((3, 5))
    hidden = pooled
    for convolution, norm, _ in list(model.layer1)[1:]:
        hidden = norm(convolution(hidden)).relu()
    torch.testing.assert_close(maps[1], hidden)


def test_shuffle_lets_every_group_read_from_every_other():
    x = torch.arange(12.0).reshape(1, 12, 1, 1).expand(2, 12, 3, 3)
    dealt = shuffle(x, 3)
    assert dealt.shape == x.shape
    for group in dealt[0, :, 0, 0].chunk(3):
        assert {int(channel) // 4 for channel in group} == {0, 1, 2}
    assert torch.equal(shuffle(x, 1), x)


def test_shufflenet_units_mix_all_channels(build):
    # Without the shuffle the groups of a ShuffleNet would be separate networks.
    model = build("shufflenet_v1")
    unit = model.layer1[1]
    x = torch.randn(1, 240, 4, 4, requires_grad=True)
    unit(x)[0, :80].sum().backward()  # one of three groups
    reached = (x.grad - torch.autograd.grad(x[0, :80].sum(), x)[0])[0].abs().sum((1, 2)) > 0
    assert reached[80:160].any() and reached[160:].any()


def test_the_tap_of_a_wide_resnet_is_the_bare_sum_in_front_of_the_last_norm(build):
    model = build("wrn_16_2")
    maps, final = StageTaps(model, 32)(images())
    norm = model.norm[0]
    mean, var = norm.running_mean, norm.running_var
    expected = (maps[-1] - mean[:, None, None]) / (var[:, None, None] + norm.eps).sqrt()
    expected = (expected * norm.weight[:, None, None] + norm.bias[:, None, None]).relu()
    torch.testing.assert_close(final, expected)
    # Identity mapping: a block adds to what the one before it gave, and nothing touches the sum.
    block = model.layer3[1]
    with torch.no_grad():
        before = model.layer3[0](maps[-2])
        activated = block.act1(block.bn1(before))
        branch = block.conv2(block.act2(block.bn2(block.conv1(activated))))
    torch.testing.assert_close(maps[-1], before + branch)
    _, normed = model.forward_intermediates(images(), norm=True)
    assert torch.equal(normed[-1], final) and torch.equal(normed[-2], maps[-2])
