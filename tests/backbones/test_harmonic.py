"""Harmonic convolutions: the basis, what they train as, and the plain network that they become."""

import copy

import pytest
import torch
from torch import nn

from hf_vipriors.backbones import (
    StageTaps,
    create_backbone,
    is_harmonic,
    load_plain_state,
    make_harmonic,
    plain_state,
)
from hf_vipriors.backbones.harmonic import HarmonicKernel, dct_basis
from hf_vipriors.errors import InputError

SMALL_RESNET = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4}
DEEP = ("resnet18", 32, SMALL_RESNET)
WIDE = ("cifar_wrn_16_2", 32, {})
MOBILE = ("mobilenetv3_small_050", 64, {})
WITH_BIAS = ("convnext_atto", 64, {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]})
FORMS = [{}, {"level": 2}, {"batch_norm": True}, {"batch_norm": True, "level": 2}]


def build(name, size, arguments, seed=0):
    torch.manual_seed(seed)
    return create_backbone(name, image_size=size, num_classes=3, backbone_args=arguments)


def images(size, count=4, seed=0):
    """As photographs are: bright, and with few details."""
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.interpolate(torch.randn(count, 3, 8, 8, generator=generator) + 1, size, mode="bilinear")


def train(network, batches, **options):
    """A few steps of SGD."""
    optimizer = torch.optim.SGD(network.parameters(), **({"lr": 0.05, "momentum": 0.9} | options))
    for batch in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(batch), torch.arange(len(batch)) % 3).backward()
        optimizer.step()
    return network


def message(error):
    return error.value.on_command_line


def test_the_basis_is_the_orthonormal_dct():
    basis = dct_basis((3, 4))
    torch.testing.assert_close(basis @ basis.T, torch.eye(12))
    for number, (u, v) in enumerate((u, v) for u in range(3) for v in range(4)):
        for x in range(3):
            for y in range(4):
                scale = (1 / 3 if u == 0 else 2 / 3) ** 0.5 * (1 / 4 if v == 0 else 2 / 4) ** 0.5
                angles = torch.tensor([torch.pi * (x + 0.5) * u / 3, torch.pi * (y + 0.5) * v / 4])
                expected = scale * angles.cos().prod()
                torch.testing.assert_close(basis[number, 4 * x + y], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("level", "count"), [(1, 1), (2, 3), (3, 6), (4, 8), (None, 9)])
def test_a_level_keeps_the_low_frequencies(level, count):
    assert len(dct_basis((3, 3), level)) == count
    assert all(any(torch.equal(row, each) for each in dct_basis((3, 3))) for row in dct_basis((3, 3), level))


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("case", [DEEP, WIDE, MOBILE, WITH_BIAS], ids=lambda case: case[0])
def test_a_trained_network_becomes_the_plain_one_with_the_same_outputs(case, form):
    if case is MOBILE and form.get("batch_norm"):
        form = {"batch_norm": True}  # no other convolution of it is harmonic
    network = build(*case)
    make_harmonic(network, image_size=case[1], **form)
    train(network, [images(case[1], seed=seed) for seed in range(3)]).eval()
    plain = build(*case, seed=1).eval()
    plain.load_state_dict(plain_state(network))
    shown = images(case[1], seed=9)
    with torch.no_grad():
        torch.testing.assert_close(plain(shown), network(shown), atol=1e-5, rtol=1e-5)
        found, expected = (each.forward_features(shown) for each in (plain, network))
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert is_harmonic(network) and not is_harmonic(plain)


def test_sgd_trains_coefficients_as_it_trains_kernels():
    plain, harmonic = build(*WIDE).double(), build(*WIDE).double()
    make_harmonic(harmonic, image_size=32)
    start, batches = plain_state(harmonic), [images(32, seed=seed).double() for seed in range(4)]
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(start[name], tensor)
    options = {"nesterov": True, "weight_decay": 5e-4}
    train(plain, batches, **options)
    train(harmonic, batches, **options)
    found, expected = plain_state(harmonic), plain.state_dict()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-8, rtol=1e-8)
    assert (expected["layer2.0.conv1.weight"] - start["layer2.0.conv1.weight"]).abs().max() > 1e-3


@pytest.mark.parametrize("form", [{"level": 2}, {"batch_norm": True}], ids=str)
def test_the_other_forms_train_otherwise(form):
    plain, harmonic = build(*WIDE), build(*WIDE)
    make_harmonic(harmonic, image_size=32, **form)
    batches = [images(32, seed=seed) for seed in range(3)]
    weights = [plain_state(train(each, batches))["layer2.0.conv1.weight"] for each in (plain, harmonic)]
    assert (weights[0] - weights[1]).abs().max() > 1e-3


def test_a_kernel_with_a_level_is_on_average_as_long_as_without():
    weight = torch.randn(64, 32, 3, 3, generator=torch.Generator().manual_seed(0))
    kernel = HarmonicKernel((3, 3), level=2)
    shortened = kernel.shortened(weight)
    torch.testing.assert_close(shortened.norm(), weight.norm(), rtol=0.02, atol=0)
    torch.testing.assert_close(kernel(kernel.right_inverse(shortened)), shortened)


def test_which_convolutions_are_changed():
    network = build(*MOBILE)
    before = dict(network.named_parameters())
    make_harmonic(network, image_size=64)
    changed = before.keys() - dict(network.named_parameters()).keys()
    assert changed == {"conv_stem.weight"}, "depthwise and 1x1 convolutions stay"
    wide = build(*WIDE)
    before = {name: tensor.shape for name, tensor in wide.named_parameters()}
    make_harmonic(wide, image_size=32, level=3, batch_norm=True)
    assert wide.stem.coefficients.shape == (16, 3, 9), "all frequencies"
    assert wide.layer1[0].conv2.parametrizations.weight.original.shape == (32, 32, 6)
    gone = before.keys() - dict(wide.named_parameters()).keys()
    assert gone == {name for name, shape in before.items() if shape[2:] == (3, 3)}


def test_the_first_responses_are_normalised_for_each_filter_and_channel():
    network = build(*WIDE)
    make_harmonic(network, image_size=32, batch_norm=True)
    seen = []
    network.stem.norm.register_forward_hook(lambda module, given, output: seen.append((given[0], output)))
    shown = images(32, count=8)
    network(shown)
    ((raw, normalised),) = seen
    loop = torch.stack([
        nn.functional.conv2d(shown[:, channel, None], row.view(1, 1, 3, 3), padding=1)[:, 0]
        for channel in range(3)
        for row in dct_basis((3, 3))
    ], dim=1)  # fmt: skip
    torch.testing.assert_close(raw, loop, atol=1e-5, rtol=1e-5)
    assert normalised.mean((0, 2, 3)).abs().max() < 1e-4
    variance = raw.var((0, 2, 3), correction=0)
    torch.testing.assert_close(normalised.var((0, 2, 3), correction=0), variance / (variance + 1e-5))


def test_a_copy_and_taps_of_a_harmonic_network_work():
    network = build(*DEEP)
    make_harmonic(network, image_size=32, batch_norm=True)
    other = train(copy.deepcopy(network), [images(32)])
    assert not torch.equal(plain_state(other)["conv1.0.weight"], plain_state(network)["conv1.0.weight"])
    expected = [(stage.name, stage.side) for stage in StageTaps(build(*DEEP), 32).stages]
    taps = StageTaps(network, 32)
    assert [(stage.name, stage.side) for stage in taps.stages] == expected and all(stage.norm for stage in taps.stages)


def test_bfloat16_normalises_in_full_precision():
    network = build(*WIDE)
    make_harmonic(network, image_size=32, batch_norm=True)
    other = copy.deepcopy(network)
    network(images(32))
    with torch.autocast("cpu", torch.bfloat16):
        other(images(32))
    torch.testing.assert_close(other.stem.norm.running_var, network.stem.norm.running_var)


# Weights to start from


@pytest.mark.parametrize("level", [None, 3])
def test_plain_weights_become_coefficients_exactly(level):
    network, source = build(*WIDE), build(*WIDE, seed=1)
    make_harmonic(source, image_size=32, level=level)
    make_harmonic(network, image_size=32, level=level)
    train(source, [images(32)])
    load_plain_state(network, plain_state(source))
    shown = images(32, seed=9)
    torch.testing.assert_close(network.eval()(shown), source.eval()(shown), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("form", "word"), [({"level": 3}, "--harmonic_level 3"), ({"batch_norm": True}, "--harmonic batch_norm")], ids=str
)
def test_weights_that_do_not_fit_are_refused(form, word):
    network = build(*WIDE)
    make_harmonic(network, image_size=32, **form)
    with pytest.raises(InputError) as error:
        load_plain_state(network, build(*WIDE, seed=1).state_dict())
    assert word in message(error) and "--student_init scratch" in message(error)


@pytest.mark.parametrize(
    ("case", "form", "words"),
    [
        (WIDE, {"level": 5}, ["--harmonic_level 5", "at most 4"]),
        (MOBILE, {"batch_norm": True, "level": 2}, ["--harmonic_level 2", "first convolution keeps all"]),
        (("cifar_shufflenet_v1", 32, {}), {}, ["no convolution"]),
        (("convnext_atto", 64, {"depths": [1, 1, 1, 1]}), {"level": 7}, ["--harmonic_level 7", "at most 6"]),
        # Its first shortcut adds what the stem gives to the branch behind the batch norm.
        (("cifar_wrn_16_1", 32, {}), {"batch_norm": True}, ["stem", "batch norm", "--harmonic weights"]),
        (("tf_efficientnet_b0", 64, {}), {"batch_norm": True}, ["conv_stem", "--harmonic weights"]),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(case, form, words):
    with pytest.raises(InputError) as error:
        make_harmonic(build(*case), image_size=case[1], **form)
    assert all(word in message(error) for word in words), message(error)
