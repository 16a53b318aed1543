"""create_backbone, normalisation and feature_dim on real timm networks, tiny sizes."""

import pytest
import timm
import torch

from hf_vipriors.backbones import create_backbone, feature_dim, has_fixed_size, normalisation
from hf_vipriors.errors import InputError

SMALL_RESNET = {"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}


def message(error: pytest.ExceptionInfo) -> str:
    """The message of a user error, which must be one line."""
    assert "\n" not in error.value.on_command_line
    return error.value.on_command_line


def test_small_resnet_takes_the_lists_of_a_recipe():
    model = create_backbone("resnet18", image_size=64, num_classes=10, backbone_args=SMALL_RESNET)
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 10)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(0.70e6, rel=0.02)
    assert model.layer4[-1].bn2.num_features == 128
    assert SMALL_RESNET["channels"] == [16, 32, 64, 128]  # what the caller gave is left alone


def test_lists_reach_timm_as_tuples_and_nothing_is_downloaded(monkeypatch):
    seen = {}
    build = timm.create_model

    def spy(name, **kwargs):
        seen.update(kwargs)
        return build(name, pretrained=False, num_classes=0)

    monkeypatch.setattr(timm, "create_model", spy)
    create_backbone("resnet18", image_size=32, backbone_args={"channels": [1, [2, 3]], "stem_width": 8})
    assert seen == {"pretrained": False, "num_classes": 0, "channels": (1, (2, 3)), "stem_width": 8}


@pytest.mark.parametrize(
    ("name", "size", "tokens"), [("vit_tiny_patch16_224", 48, 3 * 3 + 1), ("vit_tiny_patch16_224", 64, 4 * 4 + 1)]
)
def test_networks_of_fixed_size_are_built_for_the_image_size(name, size, tokens):
    assert has_fixed_size(name) and not has_fixed_size("resnet18")
    model = create_backbone(name, image_size=size, backbone_args={"depth": 1})
    assert model.pos_embed.shape[1] == tokens
    assert model(torch.rand(1, 3, size, size)).shape == (1, 192)


def test_building_gives_timms_own_weights_and_leaves_no_trace():
    torch.manual_seed(7)
    expected = timm.create_model("resnet18", num_classes=3, channels=(16, 32, 64, 128), stem_type="deep", stem_width=8)
    state_of_generator = torch.get_rng_state()
    torch.manual_seed(7)
    model = create_backbone("resnet18", image_size=32, num_classes=3, backbone_args=SMALL_RESNET)
    assert torch.equal(torch.get_rng_state(), state_of_generator)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert all(module.training for module in model.modules())


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError) as error:
        create_backbone("resnet8", image_size=32)
    assert "'resnet8'" in message(error) and "'resnet18'" in message(error)
    with pytest.raises(InputError, match="resnet18"):
        normalisation("resnet8")
    for path in ("local-dir:/tmp", "hf-hub:timm/resnet18.a1_in1k", "timm/resnet18"):
        with pytest.raises(InputError):
            create_backbone(path, image_size=32)


@pytest.mark.parametrize("arguments", [{"chanels": [1, 2, 3, 4]}, {"channels": 3}, {"stem_type": "deep", "depth": 3}])
def test_arguments_the_network_does_not_have(arguments):
    with pytest.raises(InputError) as error:
        create_backbone("resnet18", image_size=32, backbone_args=arguments)
    assert "backbone_args" in message(error) and next(iter(arguments)) in message(error)


@pytest.mark.parametrize("key", ["checkpoint_path", "pretrained", "img_size", "num_classes", "features_only"])
def test_arguments_that_are_not_the_recipes_to_give(key):
    with pytest.raises(InputError) as error:
        create_backbone("resnet18", image_size=32, backbone_args={key: 1})
    assert repr(key) in message(error)


@pytest.mark.parametrize(
    ("name", "size", "arguments"),
    [
        ("vit_tiny_patch16_224", 50, {"depth": 1}),  # timm would ignore two rows and two columns of pixels
        ("vit_tiny_patch16_224", 8, {"depth": 1}),
        ("inception_v3", 32, None),  # no pixel is left after the pools
        ("efficientformer_l1", 64, None),  # attention is built for 224
    ],
)
def test_image_size_the_network_cannot_take(name, size, arguments):
    with pytest.raises(InputError) as error:
        create_backbone(name, image_size=size, backbone_args=arguments)
    assert f"{size} px" in message(error) and repr(name) in message(error)


def test_normalisation_is_timms():
    assert normalisation("vit_tiny_patch16_224") == ([0.5] * 3, [0.5] * 3, "bicubic", 0.9)
    mean, std, interpolation, crop_pct = normalisation("mobilenetv3_large_100")
    assert (mean, std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    config = timm.data.resolve_model_data_config(create_backbone("mobilenetv3_large_100", image_size=32))
    assert (interpolation, crop_pct) == (config["interpolation"], config["crop_pct"])


@pytest.mark.parametrize(
    ("name", "width"), [("resnet18", 512), ("mobilenetv3_large_100", 1280), ("test_vit", 64), ("test_convnext", 64)]
)
def test_feature_dim_is_the_width_before_the_classifier(name, width):
    for num_classes in (0, 5):
        model = create_backbone(name, image_size=32, num_classes=num_classes).eval()
        features = model.forward_head(model.forward_features(torch.rand(1, 3, 32, 32)), pre_logits=True)
        assert feature_dim(model) == features.shape[1] == width


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": [10**6, 1, 1, 1]}, "add up to more than 10,000"),
        ({"block_args": {"rd_channels": 10**6}}, "add up to more than 10,000"),
        ({"layers": [1000, 1, 1, 1], "channels": [9000, 8, 8, 8]}, "add up to more than 10,000"),
        ({"layers": [400, 2, 2, 2], "channels": [8000, 64, 64, 64]}, "takes [0-9,]+ GiB, this machine has"),
    ],
)
def test_what_no_machine_could_build_is_refused_before_it_is_built(arguments, message):
    with pytest.raises(InputError, match=message):
        create_backbone("resnet18", image_size=32, backbone_args=arguments)


def test_the_look_at_the_size_draws_no_random_numbers():
    torch.manual_seed(0)
    expected = timm.create_model("test_vit", num_classes=3, img_size=32).state_dict()
    torch.manual_seed(0)
    found = create_backbone("test_vit", image_size=32, num_classes=3).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
