import numpy as np
import pytest
import torch

from hf_vipriors.views import (
    ClassificationViews,
    ConsistencyViews,
    ContrastiveViews,
    EvaluationView,
    RotationViews,
    TenCrop,
)
from hf_vipriors.views.blur import blur, draw_blur
from hf_vipriors.views.colour import draw_jitter, jitter_
from hf_vipriors.views.rendering import by_torch
from hf_vipriors.views.sampling import draw_crops, sample

STATS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}


def images(count=8, channels=3, side=24):
    return torch.randint(0, 256, (count, channels, side, side), generator=seeded(7), dtype=torch.uint8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("make", [ContrastiveViews, ClassificationViews])
def test_shape_and_purity(make, channels):
    views = make(16, **STATS)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = views(images(channels=channels), seeded(3))
    torch.rand(5)
    second = views(images(channels=channels), seeded(3))
    torch.set_rng_state(state)
    assert all(view.shape == (8, 3, 16, 16) and view.isfinite().all() for view in first)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), "a view depends on its generator alone"
    third = views(images(channels=channels), seeded(4))
    assert not torch.equal(first[0], third[0])


@pytest.mark.parametrize("policy", ["cifar10", "imagenet", "randaugment"])
def test_auto_augment_leaves_the_global_random_state_alone(policy):
    views = ClassificationViews(16, **STATS, auto_augment=policy)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = views(images(), seeded(3))[0]
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(views(images(), seeded(3))[0], first)
    assert not torch.equal(first, ClassificationViews(16, **STATS)(images(), seeded(3))[0])


def test_auto_augment_draws_a_policy_for_each_image():
    same = images(1).expand(24, -1, -1, -1).contiguous()
    views = ClassificationViews(24, **STATS, crop_scale=(1.0, 1.0), flip=0.0, auto_augment="cifar10")
    plain = ClassificationViews(24, **STATS, crop_scale=(1.0, 1.0), flip=0.0)(same, seeded())[0]
    augmented = views(same, seeded())[0]
    changed = (augmented - plain).abs().flatten(1).amax(dim=1) > 0.1
    assert 4 < changed.sum() < 24, "some images are changed, others left"


def test_each_sample_has_its_own_view():
    same = images(1).expand(6, -1, -1, -1).contiguous()
    first, second = ContrastiveViews(16, **STATS)(same, seeded())
    rows = torch.cat([first, second]).flatten(1)
    assert (torch.cdist(rows, rows) + 9 * torch.eye(12) > 0.1).all()


def test_crop_of_everything_without_flip_is_the_image():
    image = images().float() / 255
    got = sample(image, draw_crops(8, (1.0, 1.0), seeded(), ratio=(1.0, 1.0), flip=0.0), 24)
    torch.testing.assert_close(got, image, rtol=0, atol=1e-5)
    flipped = sample(image, draw_crops(8, (1.0, 1.0), seeded(), ratio=(1.0, 1.0), flip=1.0), 24)
    torch.testing.assert_close(flipped, image.flip(-1), rtol=0, atol=1e-5)


def test_crops_stay_inside_and_cover_the_area_asked_for():
    side, count = 64, 400
    ramp = torch.linspace(0, 1, side)
    xy = torch.stack(torch.meshgrid(ramp, ramp, indexing="ij")).expand(count, -1, -1, -1)
    crops = sample(xy, draw_crops(count, (0.2, 0.6), seeded(), flip=0.5), 32)
    assert crops.min() >= 0 and crops.max() <= 1
    height, width = (crops[:, c].flatten(1).amax(1) - crops[:, c].flatten(1).amin(1) for c in (0, 1))
    area = height * width * (32 / 31 * 63 / 64) ** 2  # from pixel centres to edges
    assert 0.17 < area.min() < 0.25 and 0.55 < area.max() < 0.65
    ratio = width / height
    assert 0.7 < ratio.min() < 0.85 and 1.2 < ratio.max() < 1.4
    centre = crops[:, 1].mean(dim=(1, 2))
    assert centre.min() < 0.4 and centre.max() > 0.6, "the crop moves about"


def shifted_slowly(raw, pixels, generator):
    """Image by image: enlarged by its reflection at the edges, a window of its own size, flipped or not."""
    across, down = np.floor((2 * pixels + 1) * torch.rand(2, len(raw), generator=generator).numpy()).astype(int)
    flipped = torch.rand(len(raw), generator=generator) < 0.5
    side, views = raw.shape[-1], []
    for image, x, y, flip in zip(raw.numpy(), across, down, flipped, strict=True):
        wide = np.pad(image, ((0, 0), (pixels, pixels), (pixels, pixels)), mode="symmetric")
        window = wide[:, y : y + side, x : x + side]
        views.append(window[:, :, ::-1] if flip else window)
    assert set(across) == set(down) == set(range(2 * pixels + 1)), "every shift is drawn"
    return torch.from_numpy(np.stack(views)).float() / 255


@pytest.mark.parametrize("channels", [1, 3])
def test_shifts_move_whole_pixels_and_reflect_the_edges(channels):
    raw = images(200, channels, side=32)
    views = ClassificationViews(32, mean=[0.0] * 3, std=[1.0] * 3, shift=4)
    expected = shifted_slowly(raw, 4, seeded(5)).expand(-1, 3, -1, -1)
    torch.testing.assert_close(views(raw, seeded(5))[0], expected, rtol=0, atol=1e-4)
    drawn = views.draws(len(raw), seeded(5), 0.5)
    torch.testing.assert_close(by_torch(raw, drawn, 32).expand(-1, 3, -1, -1), expected, rtol=0, atol=1e-4)


def test_every_view_of_a_student_can_be_shifted():
    raw = images(1, side=32).expand(64, -1, -1, -1).contiguous()
    settings = {"mean": [0.0] * 3, "std": [1.0] * 3, "shift": 2, "flip": 0.0}
    wide = np.pad(raw[0].numpy(), ((0, 0), (2, 2), (2, 2)), mode="symmetric")
    known = np.stack([wide[:, y : y + 32, x : x + 32] for y in range(5) for x in range(5)])
    known = torch.from_numpy(known).float().flatten(1) / 255
    weak, _ = ConsistencyViews(32, **settings)(raw, seeded())
    (rotated,) = RotationViews(32, **settings)(raw, seeded())
    for view in (weak, rotated[::4], rotated[1::4].rot90(-1, dims=(2, 3))):
        nearest = (view.flatten(1)[:, None] - known[None]).abs().amax(dim=2).min(dim=1)
        assert nearest.values.max() < 1e-4 and len(nearest.indices.unique()) > 10


def changed(options):
    """Which of 400 images one of the random operations changes by more than rounding, all others being off."""
    still = {"crop_scale": (1.0, 1.0), "flip": 0.0, "jitter_probability": 0.0, "grayscale": 0.0, "blur": 0.0}
    raw = (images(400, side=32).float() * 0.6 + 50).to(torch.uint8)
    before, after = (ContrastiveViews(32, **STATS, views=1, **still | o)(raw, seeded())[0] for o in ({}, options))
    difference = (after - before).abs().flatten(1).amax(dim=1)
    assert torch.equal(after[difference < 1e-3], before[difference < 1e-3]), "what is not drawn stays, to the last bit"
    return difference >= 1e-3


@pytest.mark.parametrize(
    ("options", "low", "high"),
    [
        ({}, 0.0, 0.0),
        ({"jitter_probability": 0.8}, 0.7, 0.9),
        ({"jitter_probability": 1.0}, 1.0, 1.0),
        ({"grayscale": 0.2}, 0.12, 0.28),
        ({"blur": 0.5, "blur_sigma": (2.0, 2.0)}, 0.4, 0.6),
        ({"flip": 0.5}, 0.4, 0.6),
    ],
)
def test_each_operation_changes_the_share_asked_for(options, low, high):
    assert low <= changed(options).float().mean() <= high


def test_gray_jitter_is_colour_jitter_of_a_gray_image():
    gray = images(16, channels=1, side=8).float() / 255
    factors = draw_jitter(16, (0.4, 0.4, 0.0, 0.0), 1.0, seeded())
    three = jitter_(gray.expand(-1, 3, -1, -1).contiguous(), factors)
    torch.testing.assert_close(three, jitter_(gray, factors).expand(-1, 3, -1, -1), rtol=0, atol=1e-5)


def test_blur_smooths():
    image = images(20, side=32).float() / 255
    widths = draw_blur(20, (2.0, 2.0), 1.0, seeded(), side=32)
    smooth = blur(image, widths, 32)

    def roughness(x):
        return (x[..., 1:] - x[..., :-1]).abs().mean(dim=(1, 2, 3))

    assert (roughness(smooth) < 0.9 * roughness(image)).all()


def test_evaluation_view_is_normalised_pixels():
    raw = images()
    want = (raw.float() / 255 - torch.tensor(STATS["mean"]).view(3, 1, 1)) / torch.tensor(STATS["std"]).view(3, 1, 1)
    torch.testing.assert_close(EvaluationView(**STATS)(raw), want)


def test_ten_crops_are_corners_centre_and_their_mirrors():
    raw = images(side=24)
    view = EvaluationView(**STATS)(raw)
    crops = TenCrop(20, **STATS)(raw)
    assert len(crops) == 10
    for y, x, crop in ((0, 0, crops[0]), (0, 4, crops[1]), (4, 0, crops[2]), (4, 4, crops[3]), (2, 2, crops[4])):
        torch.testing.assert_close(crop, view[..., y : y + 20, x : x + 20])
    for mirror in crops[5:]:
        assert any(torch.allclose(mirror.flip(-1), other) for other in crops[:5])


def test_refuses_float_images_and_small_crops():
    with pytest.raises(ValueError, match="uint8"):
        ContrastiveViews(16, **STATS)(images().float(), seeded())
    with pytest.raises(ValueError, match="larger"):
        TenCrop(32, **STATS)(images(side=24))
    with pytest.raises(ValueError, match="auto_augment"):
        ClassificationViews(16, **STATS, auto_augment="cifar")
