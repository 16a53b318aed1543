import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from hf_vipriors.views import ClassificationViews, ConsistencyViews
from hf_vipriors.views.operations import LAYERS, OPERATIONS, Operations, recoloured
from hf_vipriors.views.randaugment import COLOURS, DRAWN, draw_operations, turned_crops
from hf_vipriors.views.rendering import Draws, by_torch, render
from hf_vipriors.views.sampling import draw_crops

STATS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=6, channels=3, height=23, width=31):
    """Noise, smooth ones with few values, one of a single value, one of two."""
    made = torch.randint(0, 256, (count, channels, height, width), generator=seeded(7), dtype=torch.uint8)
    made[1:3] = (torch.arange(width) * 3 + 40).to(torch.uint8)
    made[3] = 77
    made[4] = made[4] // 200 * 90 + 30
    return made


def drawn(*layers, count=6):
    """A ``(name, size)`` a layer, for all images."""
    numbers = [[OPERATIONS.index(name)] * count for name, _ in layers]
    return Operations(np.array(numbers), np.array([[size] * count for _, size in layers], dtype=np.float32))


def after(images, operations):
    """All layers of operations on colours."""
    for layer in zip(*operations, strict=True):
        images = recoloured(images, *layer, COLOURS)
    return images


PILLOW = {
    "autocontrast": lambda image, size: ImageOps.autocontrast(image),
    "brightness": lambda image, size: ImageEnhance.Brightness(image).enhance(size),
    "color": lambda image, size: ImageEnhance.Color(image).enhance(size),
    "contrast": lambda image, size: ImageEnhance.Contrast(image).enhance(size),
    "equalize": lambda image, size: ImageOps.equalize(image),
    "invert": lambda image, size: ImageOps.invert(image),
    "posterize": lambda image, size: ImageOps.posterize(image, size),
    "sharpness": lambda image, size: ImageEnhance.Sharpness(image).enhance(size),
    "solarize": lambda image, size: ImageOps.solarize(image, math.ceil(255 * size)),
}
SIZES = {"posterize": [1, 4, 6, 8], "solarize": [0.0, 0.3, 0.5, 0.999]}
FACTORS = [0.0, 0.3, 0.95, 1.0]
EXACT = {"equalize", "invert", "posterize", "solarize"}
UNSCALED = {(name, 1.0) for name in ("brightness", "color", "contrast", "sharpness")}  # but for rounding
NOTHING = UNSCALED | {("posterize", 8)}


def by_pillow(name, image, size):
    """uint8 ``(C, H, W)`` -> the same."""
    whole = image.permute(1, 2, 0).numpy()
    changed = PILLOW[name](Image.fromarray(whole[:, :, 0] if whole.shape[2] == 1 else whole), size)
    return torch.from_numpy(np.array(changed)).reshape(whole.shape).permute(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "size"), [(name, size) for name in PILLOW for size in SIZES.get(name, FACTORS)])
def test_colours_are_those_of_pillow(name, size, channels):
    raw = images(channels=channels)
    got = after(raw.float() / 255, drawn((name, size), ("identity", 0.5)))
    want = torch.stack([by_pillow(name, image, size) for image in raw]).float() / 255
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6 if name in EXACT else 1.6 / 255)
    nothing = (name, channels) == ("color", 1) or (name, size) in NOTHING
    tolerance = 1e-6 if (name, size) in UNSCALED else 0
    assert torch.allclose(got, raw.float() / 255, rtol=0, atol=tolerance) == nothing


def test_every_operation_on_colours_is_compared():
    assert PILLOW.keys() == COLOURS.keys() < set(OPERATIONS)


def test_each_image_has_its_own_operation_and_magnitude():
    """Together as one after another."""
    raw = images(12).float() / 255
    operations = draw_operations(12, seeded(5))
    together = after(raw.clone(), operations)
    for row in range(12):
        alone = Operations(*(each[:, row : row + 1] for each in operations))
        torch.testing.assert_close(together[row : row + 1], after(raw[row : row + 1].clone(), alone))


def test_the_second_operation_sees_the_result_of_the_first():
    raw = images().float() / 255
    both = after(raw.clone(), drawn(("solarize", 0.4), ("posterize", 4)))
    first = after(raw.clone(), drawn(("solarize", 0.4)))
    torch.testing.assert_close(both, after(first, drawn(("posterize", 4))))
    other = after(raw.clone(), drawn(("posterize", 4), ("solarize", 0.4)))
    assert not torch.allclose(both, other)


def point(name, size, x, y):
    """Where the view's point comes from, of an operation by itself."""
    return {
        "rotate": (math.cos(size) * x - math.sin(size) * y, math.sin(size) * x + math.cos(size) * y),
        "shear_x": (x + size * y, y),
        "shear_y": (x, y + size * x),
        "translate_x": (x + 2 * size, y),  # of a side that spans [-1, 1]
        "translate_y": (x, y + 2 * size),
    }.get(name, (x, y))


@pytest.mark.parametrize(
    "layers", [("rotate", "shear_x"), ("translate_x", "rotate"), ("shear_y", "equalize"), ("identity", "translate_y")]
)
def test_positions_are_moved_layer_after_layer(layers):
    crops = draw_crops(40, (0.3, 1.0), seeded(2))
    sizes = np.stack([np.linspace(-0.5, 0.5, 40), np.linspace(0.3, -0.3, 40)]).astype(np.float32)
    numbers = np.array([[OPERATIONS.index(name)] * 40 for name in layers])
    found = turned_crops(crops, Operations(numbers, sizes)).double()
    for crop, matrix, one, two in zip(crops.double(), found, *sizes.tolist(), strict=True):
        for x, y in ((0.0, 0.0), (1.0, 0.0), (-0.3, 0.8)):
            moved = point(layers[0], one, *point(layers[1], two, x, y))
            want = crop @ torch.tensor([*moved, 1.0]).double()
            torch.testing.assert_close(matrix @ torch.tensor([x, y, 1.0]).double(), want, rtol=1e-5, atol=1e-5)


def test_compiled_views_are_those_of_torch():
    raw = images(64, height=40, width=36)
    draws = Draws(turned_crops(draw_crops(64, (0.5, 1.0), seeded()), draw_operations(64, seeded(1))), turned=True)
    torch.testing.assert_close(render(raw, draws, 32), by_torch(raw, draws, 32), rtol=0, atol=5e-5)


RANGES = [
    ("brightness", 0.05, 0.95),
    ("color", 0.05, 0.95),
    ("contrast", 0.05, 0.95),
    ("sharpness", 0.05, 0.95),
    ("solarize", 0, 1),
    ("rotate", -np.pi / 6, np.pi / 6),
    ("shear_x", -0.3, 0.3),
    ("shear_y", -0.3, 0.3),
    ("translate_x", -0.3, 0.3),
    ("translate_y", -0.3, 0.3),
]


def test_all_operations_come_up_equally_often_in_each_layer_and_over_their_whole_range():
    numbers, sizes = draw_operations(14_000, seeded())
    assert numbers.shape == sizes.shape == (LAYERS, 14_000)
    for layer in numbers:
        counts = np.bincount(layer, minlength=len(DRAWN))
        assert len(counts) == len(DRAWN) and counts.min() > 850 and counts.max() < 1150
    assert 0.9 < (numbers[0] != numbers[1]).mean() < 0.95, "drawn with replacement"
    for name, low, high in RANGES:
        found = sizes[numbers == OPERATIONS.index(name)]
        assert low <= found.min() < low + 0.01 * (high - low) and high - 0.01 * (high - low) < found.max() <= high
        assert abs(found.mean() - (low + high) / 2) < 0.03 * (high - low)
    assert set(sizes[numbers == OPERATIONS.index("posterize")]) == {4, 5, 6, 7, 8}


@pytest.mark.parametrize("channels", [1, 3])
def test_the_strong_view_is_another_and_the_weak_one_is_not(channels):
    raw = images(32, channels=channels)
    weak, strong = ConsistencyViews(16, **STATS, strong="randaugment")(raw, seeded(3))
    plain, jittered = ConsistencyViews(16, **STATS)(raw, seeded(3))
    assert torch.equal(weak, plain) and not torch.equal(strong, jittered)
    assert strong.shape == (32, 3, 16, 16) and strong.isfinite().all()
    scaled = strong * torch.tensor(STATS["std"]).view(3, 1, 1) + torch.tensor(STATS["mean"]).view(3, 1, 1)
    assert scaled.min() > -1e-5 and scaled.max() < 1 + 1e-5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shift", [0, 2])
def test_views_of_labelled_images_have_two_operations_of_their_own(channels, shift):
    same = images(channels=channels)[:1].expand(600, -1, -1, -1).contiguous()
    options = {**STATS, "crop_scale": (1.0, 1.0), "flip": 0.0, "shift": shift}
    (views,) = ClassificationViews(16, **options, auto_augment="randaugment")(same, seeded(3))
    (plain,) = ClassificationViews(16, **options)(same, seeded(3))
    operations, generator = [], seeded(3)
    ClassificationViews(16, **options).draws(600, generator, 0.0)
    for numbers in draw_operations(600, generator).numbers.T:
        operations.append({OPERATIONS[number] for number in numbers})
    kept = (views - plain).abs().flatten(1).amax(dim=1) < 1e-5
    idle = torch.tensor([names == {"identity"} for names in operations])
    assert idle.any() and kept[idle].all()
    assert kept.float().mean() < 0.1, "of the others few change nothing: eight bits of eight, colours of a gray image"


def test_views_depend_on_their_generator_alone():
    views = ConsistencyViews(16, **STATS, strong="randaugment")
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = views(images(), seeded(3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert all(torch.equal(a, b) for a, b in zip(first, views(images(), seeded(3)), strict=True))
    assert not torch.equal(first[1], views(images(), seeded(4))[1])


def test_an_unknown_kind_of_strong_view_is_refused():
    with pytest.raises(ValueError, match="strong must be one of"):
        ConsistencyViews(16, **STATS, strong="randaug")
