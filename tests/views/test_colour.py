import math

import pytest
import torch
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_hue,
    adjust_saturation_with_gray_subtraction,
)

from hf_vipriors.views.colour import draw_jitter, grayscale_, jitter_, luma, turn_hue_


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count=12, channels=3, side=16):
    """Random ones, with gray, black, white and two-channel ties among the pixels: where hue changes its formula."""
    made = torch.rand(count, channels, side, side, generator=seeded(3))
    made[:, :, 0] = made[:, :1, 0]
    made[:, :, 1, :4], made[:, :, 1, 4:8] = 0.0, 1.0
    if channels == 3:
        made[:, 1, 2], made[:, 2, 3], made[:, 2, 4] = made[:, 0, 2], made[:, 0, 3], made[:, 1, 4]
    return made


def by_kornia(images, factors):
    brightness, contrast, saturation, turns = factors.unbind(dim=1)
    images = adjust_brightness_accumulative(images, brightness)
    images = adjust_contrast_with_mean_subtraction(images, contrast)
    if images.shape[1] == 1:
        return images
    images = adjust_saturation_with_gray_subtraction(images, saturation)
    return adjust_hue(images, turns * 2 * math.pi)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [(0.4, 0.4, 0.4, 0.1), (0.8, 0.8, 0.8, 0.5), (1.0, 1.0, 1.0, 0.0)])
def test_jitter_is_what_kornia_computes_in_four_steps(channels, strength):
    images = pictures(channels=channels)
    factors = draw_jitter(len(images), strength, 0.8, seeded())
    assert (factors == torch.tensor([1.0, 1.0, 1.0, 0.0])).all(dim=1).any(), "one image is left alone"
    want = by_kornia(images, factors)
    got = jitter_(images.clone(), factors, hue=bool(strength[3]))
    torch.testing.assert_close(got, want, rtol=0, atol=2e-5)


@pytest.mark.parametrize("turns", [-1.0, -0.5, -0.3, -1 / 6, 0.0, 1e-4, 0.1, 1 / 3, 0.5, 0.9, 1.0])
def test_any_turn_of_the_hue(turns):
    images = pictures()
    got = turn_hue_(images.clone(), torch.full((len(images), 1, 1), turns))
    want = adjust_hue(images, torch.full((len(images),), turns * 2 * math.pi))
    torch.testing.assert_close(got, want, rtol=0, atol=2e-5)


def test_a_third_of_a_turn_passes_the_channels_on():
    images = pictures()
    got = turn_hue_(images.clone(), torch.full((len(images), 1, 1), 1 / 3))
    torch.testing.assert_close(got, images.roll(1, dims=1), rtol=0, atol=2e-5)


def test_gray_pixels_have_no_hue_to_turn():
    gray = torch.rand(4, 1, 8, 8, generator=seeded()).expand(-1, 3, -1, -1).contiguous()
    assert torch.equal(turn_hue_(gray.clone(), torch.full((4, 1, 1), 0.3)), gray)


def test_grayscale_takes_the_colour_or_leaves_every_bit():
    images = pictures(3)
    got = grayscale_(images.clone(), torch.tensor([1.0, 0.0, 1.0]))
    assert torch.equal(got[[0, 2]], images[[0, 2]])
    assert torch.equal(got[1:2], luma(images)[1:2].expand(-1, 3, -1, -1))
