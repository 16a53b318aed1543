"""SwAV's wide ResNets: the widths of the published networks, and a timm network like any other."""

import pytest
import timm
import torch

from hf_vipriors.backbones import StageTaps, WideResNet, create_backbone


# Features alone: RN50w2, w4 and w5 in the SwAV paper (94, 375 and 586 million).
@pytest.mark.parametrize(("factor", "millions"), [(2, 93.9), (4, 375.4), (5, 586.5)])
def test_widths(factor, millions):
    with torch.device("meta"):
        network = timm.create_model(f"resnet50w{factor}", num_classes=0)
    assert network.num_features == 2048 * factor
    assert network.conv1.weight.shape == (64 * factor, 3, 7, 7)
    assert network.layer1[0].conv2.weight.shape[0] == 64 * factor
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions


def test_factor_one_is_timms_resnet50():
    with torch.device("meta"):
        ours = WideResNet(factor=1, block=timm.models.resnet.Bottleneck, layers=(3, 4, 6, 3))
        theirs = timm.create_model("resnet50")
    assert {n: t.shape for n, t in ours.state_dict().items()} == {n: t.shape for n, t in theirs.state_dict().items()}


def test_taps_and_head():
    network = create_backbone("resnet50w2", image_size=32, num_classes=3, backbone_args={"layers": [1, 1, 1, 1]})
    taps = StageTaps(network.eval(), 32)
    assert [stage.channels for stage in taps.stages] == [512, 1024, 2048, 4096]
    assert all(stage.norm is not None for stage in taps.stages)
    with torch.no_grad():
        maps, final = taps(torch.rand(1, 3, 32, 32))
        assert network.forward_head(final).shape == (1, 3)
