"""Every corruption: uint8 in and out, random only by its generator, worse by severity, right by hand where one can."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from hf_vipriors.errors import InputError
from hf_vipriors.views.corruptions import CORRUPTIONS, SEVERITIES, corrupt

RANDOM = {"gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "fog", "elastic"}


def pictures(channels=3, side=32, count=6):
    """Smooth shapes with some texture on a mid-gray ground: every corruption has something to change."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=side, mode="bicubic").clamp(0, 1)
    texture = 0.1 * torch.rand(count, channels, side, side, generator=generator)
    return ((0.1 + 0.6 * smooth + texture) * 255).to(torch.uint8)


def changed(images, name, severity, seed=0):
    return corrupt(images, name, severity, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 28, 64])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_uint8_of_the_same_shape_at_every_size(name, side, channels):
    images = pictures(channels, side, count=2)
    for severity in SEVERITIES:
        found = changed(images, name, severity)
        assert found.dtype == torch.uint8 and found.shape == images.shape
        assert not torch.equal(found, images)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_severity_is_worse_than_the_one_before(name):
    images = pictures(side=64, count=16)
    errors = [(changed(images, name, severity).float() - images.float()).abs().mean() for severity in SEVERITIES]
    assert all(1.02 * mild < severe for mild, severe in zip(errors, errors[1:], strict=False)), errors
    assert errors[0] > 0.5, "seen already at the lowest severity"


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_random_by_the_generator_alone(name):
    images = pictures()
    first = changed(images, name, 3)
    torch.rand(7)
    state = torch.random.get_rng_state()
    assert torch.equal(first, changed(images, name, 3))
    assert torch.equal(state, torch.random.get_rng_state()), "the global state is left alone"
    assert torch.equal(first, changed(images, name, 3, seed=1)) == (name not in RANDOM)


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_each_image_is_corrupted_in_its_own_way(name):
    twins = pictures(count=1).expand(4, -1, -1, -1).contiguous()
    found = changed(twins, name, 4)
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_images_given_are_not_changed(name):
    images = pictures()
    before = images.clone()
    changed(images, name, 5)
    assert torch.equal(images, before)


def test_noise_by_its_numbers():
    gray = torch.full((8, 1, 64, 64), 128, dtype=torch.uint8)
    noisy = changed(gray, "gaussian_noise", 2).float() / 255
    assert noisy.std().item() == pytest.approx(0.08, rel=0.03) and noisy.mean().item() == pytest.approx(
        128 / 255, abs=3e-3
    )
    shot = changed(gray, "shot_noise", 2).float() / 255
    assert shot.std().item() == pytest.approx((128 / 255 / 80) ** 0.5, rel=0.03)
    impulse = changed(gray, "impulse_noise", 5)
    for value in (0, 255):
        assert (impulse == value).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_flat_pictures_stay_flat_under_blurs_and_stretching():
    gray = torch.full((2, 3, 32, 32), 120, dtype=torch.uint8)
    for name in ("gaussian_blur", "motion_blur", "pixelate", "elastic", "contrast"):
        assert (changed(gray, name, 5).int() - 120).abs().max() <= 1, name


def test_elastic_shifts_by_its_share_of_the_side():
    # On a ramp along x the change of a value is the shift along x.
    side = 64
    ramp = (torch.arange(side) * 3).to(torch.uint8).expand(32, 1, side, side).contiguous()
    shift = (changed(ramp, "elastic", 4).float() - ramp.float())[..., 16:-16, 16:-16] / 3
    assert shift.std().item() == pytest.approx(0.028 * side, rel=0.1)


def test_pixelate_leaves_so_many_pixels():
    image = pictures(side=64, count=1)
    found = changed(image, "pixelate", 1)[0, 0].reshape(32, 2, 32, 2)
    assert (found == found[:, :1, :, :1]).all()
    means = image[0, 0].float().reshape(32, 2, 32, 2).mean(dim=(1, 3))
    assert (found[:, 0, :, 0] - means).abs().max() <= 1


@pytest.mark.parametrize(("severity", "quality"), [(1, 30), (3, 10)])
def test_jpeg_is_the_codecs(severity, quality):
    image = pictures(side=64, count=1)
    written = io.BytesIO()
    Image.fromarray(image[0].permute(1, 2, 0).numpy()).save(written, "JPEG", quality=quality)
    theirs = torch.from_numpy(np.array(Image.open(written))).permute(2, 0, 1).float()
    ours = changed(image, "jpeg", severity)[0].float()
    lost = (theirs - image[0].float()).abs().mean()
    assert (ours - theirs).abs().mean() < 0.3 * lost


@pytest.mark.parametrize("severity", [0, 6, 2.5])
def test_only_five_severities(severity):
    with pytest.raises(ValueError, match="severity must be one of"):
        changed(pictures(), "fog", severity)


def test_misspelt_or_misshaped_is_refused():
    with pytest.raises(InputError, match="did you mean 'gaussian_blur'"):
        changed(pictures(), "gausian_blur", 1)
    with pytest.raises(ValueError, match="uint8"):
        changed(pictures().float(), "fog", 1)
