import pytest
import torch

from hf_vipriors.views import ContrastiveViews
from hf_vipriors.views.blur import blur, draw_blur

PLAIN = {"mean": [0.0] * 3, "std": [1.0] * 3}
GEOMETRY_ALONE = {"jitter_probability": 0.0, "grayscale": 0.0, "blur": 0.0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=8, channels=3, side=48):
    return torch.randint(0, 256, (count, channels, side, side), generator=seeded(7), dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("patches", [1, 6])
def test_patches_follow_full_views_that_stay_as_they_were(channels, patches):
    raw = images(channels=channels)
    alone = ContrastiveViews(64, **PLAIN)(raw, seeded(3))
    views = ContrastiveViews(64, **PLAIN, patches=patches)(raw, seeded(3))
    assert [tuple(view.shape) for view in views] == [(8, 3, 64, 64)] * 2 + [(8, 3, 24, 24)] * patches
    assert all(view.isfinite().all() for view in views)
    for before, now in zip(alone, views[:2], strict=True):
        assert torch.equal(before, now)


def test_a_view_depends_on_its_generator_alone():
    views = ContrastiveViews(64, **PLAIN, patches=2)
    first = views(images(), seeded(3))
    torch.rand(5)
    assert all(torch.equal(a, b) for a, b in zip(first, views(images(), seeded(3)), strict=True))
    assert not torch.equal(first[-1], views(images(), seeded(4))[-1])
    assert not torch.equal(first[-1], first[-2]), "each patch is drawn anew"


def test_each_image_has_patches_of_its_own():
    same = images(1).expand(6, -1, -1, -1).contiguous()
    rows = torch.cat(ContrastiveViews(64, **PLAIN, patches=2)(same, seeded())[2:]).flatten(1)
    assert (torch.cdist(rows, rows) + 9 * torch.eye(12) > 0.1).all()


def test_patches_cover_the_area_asked_for_all_over_the_image():
    ramp = torch.linspace(0, 255, 256)
    xy = torch.stack(torch.meshgrid(ramp, ramp, indexing="ij"))
    raw = torch.cat([xy, xy[:1]]).expand(300, -1, -1, -1).to(torch.uint8)
    options = {"patch_size": 32, "patch_scale": (0.05, 0.14)}
    patch = ContrastiveViews(64, **PLAIN, **GEOMETRY_ALONE, views=0, patches=1, **options)(raw, seeded())[0]
    height, width = (patch[:, c].flatten(1).amax(1) - patch[:, c].flatten(1).amin(1) for c in (0, 1))
    area = height * width * (32 / 31) ** 2  # from pixel centres to edges
    assert 0.04 < area.min() < 0.06 and 0.13 < area.max() < 0.15
    centre = patch[:, :2].mean(dim=(2, 3))
    assert centre.amin(dim=0).max() < 0.25 and centre.amax(dim=0).min() > 0.75


@pytest.mark.parametrize(("size", "want"), [(16, 16), (32, 16), (64, 24), (96, 40), (224, 96), (448, 192)])
def test_patch_size_in_proportion_to_the_view(size, want):
    assert ContrastiveViews(size, **PLAIN, patches=1).patch_size == want
    assert ContrastiveViews(size, **PLAIN, patches=1, patch_size=8).patch_size == 8


def test_patches_get_the_colour_recipe_too():
    raw = (images().float() * 0.5 + 60).to(torch.uint8)
    plain = ContrastiveViews(64, **PLAIN, **GEOMETRY_ALONE, patches=1)(raw, seeded())[-1]
    gray = ContrastiveViews(64, **PLAIN, **GEOMETRY_ALONE | {"grayscale": 1.0}, patches=1)(raw, seeded())[-1]
    assert (gray.amax(dim=1) - gray.amin(dim=1)).max() < 1e-6 < (plain.amax(dim=1) - plain.amin(dim=1)).max()
    jittered = ContrastiveViews(64, **PLAIN, **GEOMETRY_ALONE | {"jitter_probability": 1.0}, patches=1)(raw, seeded())
    assert ((jittered[-1] - plain).abs().flatten(1).amax(dim=1) > 1e-2).all()


def test_a_patch_is_blurred_as_the_full_view_it_is_cut_from():
    image, widths = images(3, side=224).float() / 255, torch.full((3,), 2.0)
    full = blur(image, widths, 224)
    patch = blur(image[..., :96, :96], widths, 224)
    torch.testing.assert_close(patch[..., :70, :70], full[..., :70, :70], rtol=0, atol=1e-5)
    own_scale = draw_blur(3, (2.0, 2.0), 1.0, seeded(), side=96)
    coarse = blur(image[..., :96, :96], own_scale, 96)
    assert (coarse - full[..., :96, :96])[..., :70, :70].abs().max() > 0.01


def test_the_patches_of_a_view_are_blurred_at_its_scale():
    options = GEOMETRY_ALONE | {"blur_sigma": (2.0, 2.0), "patches": 1, "views": 1}
    sharp = ContrastiveViews(128, **PLAIN, **options)(images(2), seeded())
    blurred = ContrastiveViews(128, **PLAIN, **options | {"blur": 1.0})(images(2), seeded())
    for before, after in zip(sharp, blurred, strict=True):
        want = blur(before, torch.full((2,), 2.0 * 128 / 224), 128)
        torch.testing.assert_close(after, want, rtol=0, atol=1e-5)


def test_blur_of_a_patch_much_smaller_than_the_view():
    views = ContrastiveViews(448, **PLAIN, blur=1.0, views=0, patches=1, patch_size=8)
    assert views(images(2), seeded())[0].shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"patches": -1}, "patches"), ({"patch_size": 0}, "patch_size"), ({"patch_size": 33}, "32")],
)
def test_refuses_patches_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        ContrastiveViews(32, **PLAIN, **options)
