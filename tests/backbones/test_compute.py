"""Operations of a network, beside those counted layer by layer."""

import pytest
import torch
from torch import nn

from hf_vipriors.backbones import create_backbone, forward_operations
from hf_vipriors.errors import InputError


def counted(network, image_size):
    """2 x multiply-adds of convolutions and linear layers, from the shapes that pass through them."""
    total = 0

    def add(module, inputs, output):
        nonlocal total
        total += 2 * output.numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(add)
    network.eval()(torch.zeros(1, 3, image_size, image_size))
    return total


@pytest.mark.parametrize(
    ("name", "image_size", "arguments"),
    [
        ("cifar_wrn_16_2", 32, {}),
        ("resnet18", 48, {"channels": [32, 64, 128, 256]}),
        ("mobilenetv3_small_050", 64, {}),  # depthwise convolutions, squeeze and excitation
        ("cifar_shufflenet_v1", 32, {}),  # grouped ones
        ("pit_ti_224", 224, {}),  # counted only with gradients, and its attention beside its layers
    ],
)
def test_operations_are_those_of_its_layers(name, image_size, arguments):
    network = create_backbone(name, image_size=image_size, backbone_args=arguments)
    found = forward_operations(name, image_size=image_size, backbone_args=arguments)
    layers = counted(network, image_size)
    assert layers < found < 2 * layers if name.startswith("pit") else found == layers


def test_nothing_is_drawn_and_what_cannot_be_built_is_refused():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    forward_operations("vit_tiny_patch16_224", image_size=32)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(InputError, match="unknown backbone"):
        forward_operations("cifar_wrn_16_3", image_size=32)
    with pytest.raises(InputError, match="'vgg11' on 16 px images cannot be counted, leave it out"):
        forward_operations("vgg11", image_size=16)
