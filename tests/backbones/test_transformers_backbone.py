"""TransformersBackbone on tiny random models of many families: which features, which maps, what is refused."""

import pytest
import torch
import transformers as t
from torch import nn

from hf_vipriors.backbones import StageTaps, TransformersBackbone, feature_dim
from hf_vipriors.errors import InputError

VIT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
SWIN = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "image_size": 32, "patch_size": 2, "window_size": 4}
PYRAMID = {"hidden_sizes": [8, 16], "depths": [1, 1]}
CONFIGS = {
    "ViT": t.ViTConfig(intermediate_size=32, **VIT),
    "Deit": t.DeiTConfig(intermediate_size=32, **VIT),
    "Dinov2": t.Dinov2Config(mlp_ratio=2, **VIT),
    "Dinov2WithRegisters": t.Dinov2WithRegistersConfig(mlp_ratio=2, **VIT),
    "DINOv3ViT": t.DINOv3ViTConfig(intermediate_size=32, **VIT),
    "Swin": t.SwinConfig(**SWIN),
    "ConvNext": t.ConvNextConfig(num_stages=2, **PYRAMID),
    "ResNet": t.ResNetConfig(embedding_size=8, **PYRAMID),
    "PvtV2": t.PvtV2Config(
        hidden_sizes=[8, 16, 24, 32],
        depths=[1] * 4,
        num_attention_heads=[1, 1, 2, 2],
        mlp_ratios=[2] * 4,
        sr_ratios=[8, 4, 2, 1],
    ),
    "Hiera": t.HieraConfig(image_size=[64, 64], embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 4]),
}
# (channels, side) of the stage maps
BLOCKS = [(16, 4)] * 3
STAGES = {
    "ViT": BLOCKS,
    "Deit": BLOCKS,
    "Dinov2": BLOCKS,
    "Dinov2WithRegisters": BLOCKS,
    "DINOv3ViT": BLOCKS,
    "Swin": [(16, 8), (16, 8)],
    "ConvNext": [(8, 8), (16, 4)],
    "ResNet": [(8, 8), (16, 4)],
    "PvtV2": [(8, 8), (16, 4), (24, 2), (32, 1)],
    "Hiera": [(8, 16), (16, 8), (32, 4), (64, 2)],
}


def plain(family: str) -> t.PreTrainedModel:
    torch.manual_seed(0)
    return t.AutoModel.from_config(CONFIGS[family]).eval()


def classifier(family: str, classes: int = 5) -> t.PreTrainedModel:
    torch.manual_seed(0)
    config = type(CONFIGS[family]).from_dict(
        CONFIGS[family].to_dict() | {"id2label": {i: str(i) for i in range(classes)}}
    )
    kind = t.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)]
    model = (kind[0] if isinstance(kind, tuple) else kind)(config).eval()
    for name, parameter in model.named_parameters():  # biases start at zero, which would hide a forgotten one
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return model


def size(family: str) -> int:
    return 64 if family == "Hiera" else 32


def images(side: int = 32, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def pooled_by_hand(family: str, model: t.PreTrainedModel, x: torch.Tensor) -> torch.Tensor:
    output = model(pixel_values=x)
    if family in ("ViT", "Deit", "Dinov2", "Dinov2WithRegisters", "DINOv3ViT"):
        return output.last_hidden_state[:, 0]
    if family in ("Swin", "ConvNext", "ResNet", "Hiera"):
        return output.pooler_output.flatten(1)
    return output.last_hidden_state.mean((2, 3))


@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_pooled_features_without_a_classifier(family):
    model, x = plain(family), images(size(family))
    network = TransformersBackbone(model, size(family))
    pooled = network.forward_head(network.forward_features(x), pre_logits=True)
    torch.testing.assert_close(pooled, pooled_by_hand(family, model, x))
    assert pooled.shape == (2, feature_dim(network)) and network.num_features == feature_dim(network)
    assert torch.equal(network(x), pooled) and network.in_chans == 3
    assert pooled[0].ne(pooled[1]).any(), "the features must tell images apart"


@pytest.mark.parametrize("family", [name for name in CONFIGS if name != "DINOv3ViT"])
@torch.no_grad()
def test_pooled_features_are_what_the_classifier_reads(family):
    model, x = classifier(family), images(size(family))
    network = TransformersBackbone(model, size(family))
    final = network.forward_features(x)
    linears = [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == 5]
    pooled = network.forward_head(final, pre_logits=True)
    torch.testing.assert_close(linears[-1](pooled), model(pixel_values=x).logits)
    torch.testing.assert_close(network(x), model(pixel_values=x).logits)
    assert torch.equal(network.forward_head(final), network(x))
    assert pooled.shape == (2, feature_dim(network))
    if family == "Dinov2":
        assert feature_dim(network) == 32, "class token and mean of the patches"


@torch.no_grad()
def test_a_classifier_with_two_heads_has_the_class_token_as_features():
    model = t.DeiTForImageClassificationWithTeacher(CONFIGS["Deit"]).eval()
    network = TransformersBackbone(model, 32)
    final = network.forward_features(images())
    torch.testing.assert_close(final.logits, model(pixel_values=images()).logits)
    torch.testing.assert_close(final.pooled, model.deit(pixel_values=images()).last_hidden_state[:, 0])


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_stage_taps(family, heads):
    if heads and family == "DINOv3ViT":
        heads = False
    model, x = (classifier if heads else plain)(family), images(size(family))
    network = TransformersBackbone(model, size(family))
    taps = StageTaps(network, size(family))
    assert [(stage.channels, stage.side) for stage in taps.stages] == STAGES[family]
    assert all(stage.norm is None for stage in taps.stages)
    assert [info["num_chs"] for info in network.feature_info] == [channels for channels, _ in STAGES[family]]
    maps, final = taps(x)
    assert [tuple(each.shape) for each in maps] == [(2, c, side, side) for c, side in STAGES[family]]
    torch.testing.assert_close(network.forward_head(final), network(x))
    assert all(each[0].ne(each[1]).any() for each in maps)


@torch.no_grad()
def test_maps_leave_class_and_register_tokens_out():
    model = plain("Dinov2WithRegisters")
    network = TransformersBackbone(model, 32)
    _, maps = network.forward_intermediates(images())
    for number, each in enumerate(maps, start=1):
        hidden = model(pixel_values=images(), output_hidden_states=True).hidden_states[number]
        assert hidden.shape[1] == 1 + 4 + 16
        torch.testing.assert_close(each[:, :, 1, 2], hidden[:, 1 + 4 + 1 * 4 + 2])


def test_chosen_intermediates():
    network = TransformersBackbone(plain("ViT"), 32)
    with torch.no_grad():
        _, every = network.forward_intermediates(images())
        _, last = network.forward_intermediates(images(), indices=1)
        _, some = network.forward_intermediates(images(), indices=[0, 2])
    assert len(every) == 3 and torch.equal(last[0], every[2])
    assert [torch.equal(a, b) for a, b in zip(some, (every[0], every[2]), strict=True)] == [True, True]
    assert [stage.name for stage in StageTaps(network, 32, max_stages=2).stages] == [
        "hidden_states.2",
        "hidden_states.3",
    ]
    with pytest.raises(ValueError, match="NCHW"):
        network.forward_intermediates(images(), output_fmt="NLC")


def test_an_untrained_tanh_pooler_is_not_read():
    torch.manual_seed(0)
    model = plain("ViT")
    network = TransformersBackbone(model, 32)
    with torch.no_grad():
        before = network(images())
        nn.init.normal_(model.pooler.dense.weight)
        assert torch.equal(network(images()), before)


def test_gradients_reach_the_input_and_no_hook_stays_behind():
    model = classifier("Dinov2")
    network = TransformersBackbone(model, 32)
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    x = images().requires_grad_()
    final, maps = network.forward_intermediates(x)
    (final.pooled.sum() + sum(each.square().sum() for each in maps)).backward()
    assert x.grad.abs().sum() > 0
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]


def test_training_mode_is_as_it_was():
    assert not TransformersBackbone(plain("Swin"), 32).model.training
    assert TransformersBackbone(plain("Swin").train(), 32).model.training


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (t.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2), "input_ids"),
        (t.ViTMAEConfig(intermediate_size=32, **VIT), "differently each time"),
    ],
)
def test_what_is_no_image_teacher(config, words):
    with pytest.raises(InputError, match=words):
        TransformersBackbone(t.AutoModel.from_config(config), 32)


def test_a_size_that_the_network_cannot_take():
    with pytest.raises(InputError, match="cannot read 40 px images") as error:
        TransformersBackbone(plain("ViT"), 40)
    assert "\n" not in error.value.on_command_line
