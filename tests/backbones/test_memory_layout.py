"""Channels last, but where oneDNN would overwrite memory that is not its own."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from hf_vipriors.backbones import to_channels_last

LAST = torch.channels_last

# A crash would take the tests along. Sizes at which torch 2.15 died, forward and backward.
TRAINS = """
import sys, torch
from torch import nn
from hf_vipriors.backbones import create_backbone, to_channels_last

small = {"channels": (8, 16, 16, 16), "stem_type": "deep", "stem_width": 4}
shortcut = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 1, stride=2))
network = create_backbone("resnet18", image_size=224, backbone_args=small)
for each, side in ((shortcut, 56), (network, 224)):
    to_channels_last(each).train()
    for _ in range(3):
        images = torch.rand(16, 3, side, side).contiguous(memory_format=torch.channels_last)
        each(images).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in each.parameters())
print("trained")
"""


def test_a_strided_1x1_convolution_of_few_channels_trains():
    checked = {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
    done = subprocess.run(
        [sys.executable, "-c", TRAINS], env=os.environ | checked, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and "trained" in done.stdout, (done.returncode, done.stderr[-2000:])


@pytest.mark.parametrize(
    ("convolution", "usual"),
    [
        (nn.Conv2d(8, 16, 1, stride=2), True),
        (nn.Conv2d(15, 4, 1, stride=(1, 2)), True),
        (nn.Conv2d(16, 16, 1, stride=2), False),
        (nn.Conv2d(8, 16, 1), False),
        (nn.Conv2d(8, 16, 3, stride=2), False),
    ],
)
def test_only_such_a_convolution_computes_in_the_usual_layout(convolution, usual):
    images = torch.rand(2, convolution.in_channels, 14, 14)
    expected = convolution(images)
    found = to_channels_last(to_channels_last(copy.deepcopy(convolution)))(images.contiguous(memory_format=LAST))
    assert found.is_contiguous(memory_format=LAST) != usual and found.is_contiguous() == usual
    torch.testing.assert_close(found, expected)
