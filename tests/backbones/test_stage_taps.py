"""StageTaps on real timm networks: where they tap, that they change nothing, that they survive training."""

import copy

import pytest
import torch
from torch import nn
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel

from hf_vipriors.backbones import Stage, StageTaps, create_backbone

SMALL_RESNET = {"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}
SMALL_SWIN = {"depths": [1, 1, 1, 1], "embed_dim": 32, "num_heads": [1, 2, 4, 8]}
SIZE = 64

RESNET50_STAGES = (
    "layer1 256 16 layer1.2.bn3, layer2 512 8 layer2.3.bn3, layer3 1024 4 layer3.5.bn3, layer4 2048 2 layer4.2.bn3"
)


def family(name: str, stages: str, arguments: dict | None = None, *, slow: bool = False):
    """A network and its stages as "name channels side norm", shallow to deep; "-" where there is no ReLU or norm."""
    return pytest.param(name, arguments, stages, id=name, marks=[pytest.mark.slow] if slow else [])


FAMILIES = [
    family(
        "resnet18",
        "layer1 16 16 layer1.1.bn2, layer2 32 8 layer2.1.bn2, layer3 64 4 layer3.1.bn2, layer4 128 2 layer4.1.bn2",
        SMALL_RESNET,
    ),
    # One block per stage: the shortcut's batch norm runs after bn2 and must not be taken.
    family(
        "resnet10t",
        "layer1 64 16 layer1.0.bn2, layer2 128 8 layer2.0.bn2, layer3 256 4 layer3.0.bn2, layer4 512 2 layer4.0.bn2",
    ),
    family("resnet50", RESNET50_STAGES),
    # Every ReLU of a block is one module, called again and again: the last call ends the stage.
    family("res2net50_26w_4s", RESNET50_STAGES),
    family("resnext50_32x4d", RESNET50_STAGES, slow=True),
    family("wide_resnet50_2", RESNET50_STAGES, slow=True),
    # Each convolution holds its norm, the shortcut's too.
    family(
        "regnety_002",
        "s1 24 16 s1.b1.conv3.bn, s2 56 8 s2.b1.conv3.bn, s3 152 4 s3.b4.conv3.bn, s4 368 2 s4.b7.conv3.bn",
    ),
    family(
        "hrnet_w18_small",
        "stage1 128 16 incre_modules.0.0.bn3, stage2 256 8 incre_modules.1.0.bn3, stage3 512 4 incre_modules.2.0.bn3, "
        "stage4 1024 2 incre_modules.3.0.bn3",
        slow=True,
    ),
    # One long Sequential, no blocks; a pooling is the last stage.
    family(
        "vgg11_bn",
        "features.13 256 16 features.12, features.20 512 8 features.19, features.27 512 4 features.26, "
        "features.28 512 2 -",
        {"mlp_ratio": 0.0625},
    ),
    # The last stage ends in timm's norm with activation in one module, the others in concatenations.
    family(
        "densenet121",
        "features.denseblock1 256 16 -, features.denseblock2 512 8 -, features.denseblock3 1024 4 -, "
        "features.norm5 1024 2 features.norm5",
    ),
    family(
        "mobilenetv4_conv_small",
        "blocks.0 32 16 blocks.0.1.bn1, blocks.1 64 8 blocks.1.1.bn1, blocks.2 96 4 -, blocks.4 960 2 blocks.4.0.bn1",
    ),
    family("mobilenetv2_100", "blocks.1 24 16 -, blocks.2 32 8 -, blocks.4 96 4 -, blocks.6 320 2 -"),  # ReLU6
    family("mobilenetv3_large_100", "blocks.1 24 16 -, blocks.2 40 8 -, blocks.4 112 4 -, blocks.6 960 2 -"),
    family("efficientnet_b0", "blocks.1 24 16 -, blocks.2 40 8 -, blocks.4 112 4 -, blocks.6 320 2 -"),
    family("convnext_atto", "stages.0 40 16 -, stages.1 80 8 -, stages.2 160 4 -, stages.3 320 2 -"),
    family("resnetv2_18", "stages.0 64 16 -, stages.1 128 8 -, stages.2 256 4 -, stages.3 512 2 -"),  # pre-activation
    # Works on (B, H, W, C) inside.
    family(
        "swin_tiny_patch4_window7_224",
        "layers.0 32 16 -, layers.1 64 8 -, layers.2 128 4 -, layers.3 256 2 -",
        SMALL_SWIN,
    ),
    family("levit_128s", "stages.0 128 4 -, stages.1 256 2 -, stages.2 384 1 -"),  # tokens, three stages
    # One resolution: evenly spaced blocks.
    family("vit_tiny_patch16_224", "blocks.2 192 4 -, blocks.5 192 4 -, blocks.8 192 4 -, blocks.11 192 4 -"),
    family("test_vit", "blocks.1 64 4 -, blocks.2 64 4 -, blocks.4 64 4 -, blocks.5 64 4 -"),
]


def build(name: str, arguments: dict | None = None) -> nn.Module:
    """A network as after some training: timm starts the last batch norm of a residual block at weight 0."""
    model = create_backbone(name, image_size=SIZE, num_classes=3, backbone_args=arguments)
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.uniform_(module.bias, -0.5, 0.5, generator=generator)
    return model


def small_resnet() -> nn.Module:
    return build("resnet18", SMALL_RESNET)


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


NEXT_NORM = {
    # The stem, a bare convolution, is no stage.
    "cifar_wrn_16_2": "layer1 32 64 layer2.0.bn1, layer2 64 32 layer3.0.bn1, layer3 128 16 norm.0",
    # Norm and activation in one module.
    "resnetv2_18": "stages.0 64 16 stages.1.blocks.0.norm1, stages.1 128 8 stages.2.blocks.0.norm1, "
    "stages.2 256 4 stages.3.blocks.0.norm1, stages.3 512 2 norm",
    "resnet10t": "layer1 64 16 layer1.0.bn2, layer2 128 8 layer2.0.bn2, layer3 256 4 layer3.0.bn2, "
    "layer4 512 2 layer4.0.bn2",
    "convnext_atto": "stages.0 40 16 -, stages.1 80 8 -, stages.2 160 4 -, stages.3 320 2 -",
}


@pytest.mark.parametrize("name", NEXT_NORM)
def test_bare_sums_are_read_behind_the_norm_that_follows(name):
    model = build(name).eval()
    whole = model(images())
    taps = StageTaps(model, SIZE, next_norm=True)
    modules = {module: name for name, module in model.named_modules()}
    found = [f"{s.name} {s.channels} {s.side} {'-' if s.norm is None else modules[s.norm]}" for s in taps.stages]
    assert ", ".join(found) == NEXT_NORM[name]
    with torch.no_grad():
        maps, final = taps(images())
        _, sums = model.forward_intermediates(images(), output_fmt="NCHW")
    torch.testing.assert_close(model.forward_head(final), whole, msg="the network computes what it did")
    if name in ("cifar_wrn_16_2", "resnetv2_18"):
        for stage, map_, summed in zip(taps.stages, maps, sums[-len(maps) :], strict=True):
            norm = stage.norm
            want = nn.functional.batch_norm(
                summed, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
            torch.testing.assert_close(map_, want)
            assert map_.min() < 0, "in front of the ReLU"


@pytest.mark.parametrize(("name", "arguments", "expected"), FAMILIES)
def test_every_family_is_tapped_where_it_should_be(name, arguments, expected):
    model = build(name, arguments).eval()
    taps = StageTaps(model, SIZE)
    modules = {module: name for name, module in model.named_modules()}
    found = [f"{s.name} {s.channels} {s.side} {'-' if s.norm is None else modules[s.norm]}" for s in taps.stages]
    assert ", ".join(found) == expected
    with torch.no_grad():
        maps, final = taps(images())
        assert torch.equal(model.forward_head(final), model(images()))
        _, outputs = model.forward_intermediates(images(), output_fmt="NCHW")
    for stage, map_ in zip(taps.stages, maps, strict=True):
        assert map_.shape == (2, stage.channels, stage.side, stage.side)
        if stage.norm is not None:
            assert map_.min() < 0, "a pre-activation has negative values"
            assert stage.norm.num_features == stage.channels
        activated = map_ if stage.norm is None else map_.relu()
        assert any(o.shape == activated.shape and torch.equal(o, activated) for o in outputs), stage


def test_resnet_map_is_the_norms_output_plus_the_shortcut():
    model = small_resnet().eval()
    taps = StageTaps(model, SIZE)
    assert taps.stages[-1].norm is model.layer4[-1].bn2
    with torch.no_grad():
        maps, final = taps(images())
        block, before = model.layer4[-1], model.layer4[0](maps[2].relu())
        branch = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(before)))))
    torch.testing.assert_close(maps[-1], branch + before)
    torch.testing.assert_close(final, maps[-1].relu(), rtol=0, atol=0)


def test_building_changes_nothing_but_the_tapped_inplace():
    model = small_resnet()
    model.layer1.eval()  # modes are mixed, and must stay so
    modes = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.get_rng_state()
    StageTaps(model, SIZE)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert [block.act2.inplace for layer in (model.layer3, model.layer4) for block in layer] == [True, False] * 2
    assert model.act1.inplace and all(parameter.grad is None for parameter in model.parameters())


def test_training_twice_in_a_row_reaches_every_parameter_in_front_of_the_taps():
    model = small_resnet().train()
    taps = StageTaps(model, SIZE)
    for _ in range(2):
        model.zero_grad()
        maps, final = taps(images(4))
        sum(map_.square().mean() for map_ in maps).backward()
        silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert silent == ["fc.weight", "fc.bias"]
        assert (maps[-1] < 0).any() and torch.equal(final, maps[-1].relu())
    assert model.bn1.num_batches_tracked == 2


def test_gradients_flow_where_the_relu_is_shut():
    model = small_resnet().train()
    taps = StageTaps(model, SIZE)
    maps, _ = taps(images(4))
    shut = maps[-1][maps[-1] < 0]
    shut.sum().backward()
    assert model.layer4[-1].bn2.weight.grad.abs().sum() > 0


def hooks(model: nn.Module) -> list:
    return [hook for module in model.modules() for hook in module._forward_pre_hooks.values()]


def test_nothing_is_kept_after_a_call_or_after_a_plain_forward():
    model = small_resnet()
    taps = StageTaps(model, SIZE)
    held = hooks(model)
    assert len(held) == 4
    taps(images())
    assert all(hook.inputs == [] for hook in held)
    model(images())
    assert all(hook.inputs == [] for hook in held)


def test_nothing_is_kept_after_a_call_that_fails_half_way():
    model = small_resnet()
    taps = StageTaps(model, SIZE)
    held = hooks(model)
    model.layer4[-1].conv2 = nn.Conv2d(1, 1, 1)
    with pytest.raises(RuntimeError):
        taps(images())
    assert all(hook.inputs == [] and not hook.armed for hook in held)


def test_copies_do_not_share_taps():
    model = small_resnet().eval()
    taps = StageTaps(model, SIZE)
    twin = copy.deepcopy(model)
    assert not set(hooks(model)).intersection(hooks(twin))
    nn.init.zeros_(twin.layer4[-1].bn2.weight)
    twin_taps = StageTaps(twin, SIZE)
    both = copy.deepcopy({"model": model, "taps": taps})
    nn.init.ones_(both["model"].layer4[-1].bn2.bias)
    with torch.no_grad():
        maps, _ = taps(images())
        for other_model, other_taps in ((twin, twin_taps), (both["model"], both["taps"])):
            assert other_taps.stages[-1].norm is other_model.layer4[-1].bn2
            other_maps, other_final = other_taps(images())
            assert not torch.equal(other_maps[-1], maps[-1])
            assert torch.equal(other_final, other_maps[-1].relu())
            assert torch.equal(taps(images())[0][-1], maps[-1])


class Method(nn.Module):
    """Model and taps behind one forward, as a method of this project has them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = small_resnet()
        self.taps = StageTaps(self.model, SIZE)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        maps, final = self.taps(pixel_values)
        return self.model.forward_head(final).square().mean() + sum(map_.square().mean() for map_ in maps)


def test_taps_do_not_hide_a_second_model_in_the_state():
    assert all(name.startswith("model.") for name in Method().state_dict())


def test_under_ddp_the_gradients_are_the_same(tmp_path):
    init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        plain, wrapped = Method(), DistributedDataParallel(Method())
        for method in (plain, wrapped):
            method(images(4)).backward()
        for (name, parameter), other in zip(plain.named_parameters(), wrapped.module.parameters(), strict=True):
            torch.testing.assert_close(other.grad, parameter.grad, msg=name)
    finally:
        destroy_process_group()


def test_torch_compile_sees_the_taps_without_a_graph_break():
    method = Method().eval()
    expected = method(images())
    compiled = torch.compile(method, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images()), expected)
    torch.testing.assert_close(compiled(images() * 2), method(images() * 2))


def test_bfloat16_autocast():
    method = Method()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        method(images(4)).backward()
    assert all(parameter.grad.isfinite().all() for parameter in method.parameters())


def test_converted_sync_batch_norms_count():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(small_resnet())
    taps = StageTaps(model, SIZE)
    assert taps.stages[-1].norm is model.layer4[-1].bn2 and isinstance(taps.stages[-1].norm, nn.SyncBatchNorm)


@pytest.mark.parametrize(("count", "names"), [(1, ["layer4"]), (9, ["act1", "layer1", "layer2", "layer3", "layer4"])])
def test_max_stages(count, names):
    taps = StageTaps(small_resnet(), SIZE, max_stages=count)
    assert [stage.name for stage in taps.stages] == names
    assert len(taps(images())[0]) == len(names)
    with pytest.raises(ValueError, match="max_stages"):
        StageTaps(small_resnet(), SIZE, max_stages=0)


class Toy(nn.Module):
    """A network as somebody else may register it: one stage, made of ``body``, and no forward_intermediates."""

    in_chans = 3
    num_features = 5

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.weight = nn.Parameter(torch.ones(1))

    def forward_features(self, x):
        return self.body(x)

    def forward_head(self, x, pre_logits=False):
        return x.flatten(2).mean(2) if x.ndim == 4 else x.mean(1) if x.ndim == 3 else x


class Shape(nn.Module):
    """Images to a tensor of the given shape behind the batch."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return (
            torch.arange(float(torch.Size(self.shape).numel()))
            .view(1, *self.shape)
            .repeat(len(x), *[1] * len(self.shape))
        )


@pytest.mark.parametrize(
    ("shape", "expected", "first_row"),
    [
        ((5, 2, 2), (2, 5, 2, 2), [0, 1]),
        ((2, 2, 5), (2, 5, 2, 2), [0, 5]),  # channels last
        ((4, 5), (2, 5, 2, 2), [0, 5]),  # tokens on a 2 x 2 grid
        ((5, 5), (2, 5, 2, 2), [5, 10]),  # ... behind a class token
        ((6, 5), (2, 5, 2, 2), [10, 15]),  # ... and a distillation token
        ((8, 5), (2, 5, 1, 1), [17.5]),  # no grid: pooled
        ((5,), (2, 5, 1, 1), [0]),
    ],
)
def test_networks_without_intermediates_give_their_one_map(shape, expected, first_row):
    taps = StageTaps(Toy(Shape(*shape)), SIZE)
    maps, final = taps(images())
    assert taps.stages == [Stage("features", 5, expected[-1], None)]
    assert len(maps) == 1 and maps[0].shape == expected and final.shape == (2, *shape)
    assert maps[0][1, 0, 0].tolist() == first_row


class Parallel(nn.Module):
    """ReLU(BN(conv) + BN(conv)), both on the input: no batch norm stands for the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = (nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)) for _ in range(2))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.left(x) + self.right(x))


class ChangedAfterwards(nn.Module):
    """The output of an in-place ReLU, but something was added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.act(self.norm(self.conv(x)))
        x += 1
        return x


class FunctionalRelu(ChangedAfterwards):
    """No module to tap."""

    def forward(self, x):
        return self.norm(self.conv(x)).relu()


@pytest.mark.parametrize(
    ("body", "norm"),
    [
        (nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True)), "body.1"),
        (nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(0.5)), "body.1"),
        (nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, affine=False), nn.ReLU()), None),  # no margin from it
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 5, 3), nn.ReLU()), None),  # another width
        (nn.Sequential(nn.Conv2d(3, 5, 3), nn.GroupNorm(1, 5), nn.ReLU()), None),
        (nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU6()), None),
        (Parallel(), None),
        (ChangedAfterwards(), None),
        (FunctionalRelu(), None),
    ],
)
def test_which_stage_ends_count_as_norm_and_relu(body, norm):
    model = Toy(body)
    taps = StageTaps(model, SIZE)
    assert taps.stages[0].norm is (None if norm is None else model.get_submodule(norm))
    model.eval()
    maps, final = taps(images())
    assert torch.equal(final, maps[0] if norm is None else maps[0].relu())
