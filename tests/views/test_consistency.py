import pytest
import torch

from hf_vipriors.views import ClassificationViews, ConsistencyViews
from hf_vipriors.views.consistency import random_erasing
from hf_vipriors.views.sampling import draw_crops, sample

STATS = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=8, channels=3, side=24):
    return torch.randint(0, 256, (count, channels, side, side), generator=seeded(7), dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_weak_view_is_that_of_classification(channels):
    weak, strong = ConsistencyViews(16, **STATS)(images(channels=channels), seeded(3))
    (plain,) = ClassificationViews(16, **STATS)(images(channels=channels), seeded(3))
    assert torch.equal(weak, plain)
    assert strong.shape == weak.shape == (8, 3, 16, 16) and strong.isfinite().all()
    assert ((strong - weak).abs().flatten(1).amax(dim=1) > 0.3).all()


def test_views_depend_on_their_generator_alone():
    views = ConsistencyViews(16, **STATS)
    first = views(images(), seeded(3))
    torch.rand(5)
    assert all(torch.equal(a, b) for a, b in zip(first, views(images(), seeded(3)), strict=True))
    assert not torch.equal(first[1], views(images(), seeded(4))[1])


def test_an_erased_square_is_gray_and_of_the_size_asked_for():
    erased = random_erasing(torch.ones(200, 3, 20, 20), (0.5, 0.5), 1.0, 0.25, seeded())
    assert set(erased.unique().tolist()) == {0.25, 1.0}
    squares = (erased[:, 0] == 0.25).flatten(1).sum(dim=1)
    assert squares.max() in (100, 110, 121) and squares.min() >= 25, "a quarter of the image, less at its border"
    gone = random_erasing(torch.ones(200, 3, 20, 20), (0.5, 0.5), 0.5, 0.25, seeded())
    assert 70 < (gone == 0.25).flatten(1).any(dim=1).sum() < 130


def test_without_erasing_nothing_is_painted():
    ones = torch.ones(4, 1, 8, 8)
    assert torch.equal(random_erasing(ones, (0.2, 0.5), 0.0, 0.0, seeded()), ones)


def test_a_turned_crop_turns():
    """A full, unflipped crop, turned by at most 40 degrees: the middle of a cross stays, its arms move."""
    cross = torch.zeros(64, 1, 21, 21)
    cross[:, :, 10, :] = 1
    options = {"ratio": (1.0, 1.0), "flip": 0.0}
    still = sample(cross, draw_crops(64, (1.0, 1.0), seeded(), **options), 21)
    torch.testing.assert_close(still, cross)
    turned = sample(cross, draw_crops(64, (1.0, 1.0), seeded(), rotation=40.0, **options), 21, turned=True)
    assert turned[:, :, 10, 10].min() > 0.6
    heights = turned[:, 0, :, 16].argmax(dim=1)  # six columns right of the middle: 10 +- 6 tan(angle)
    assert heights.min() < 8 and heights.max() > 12 and heights.min() >= 4 and heights.max() <= 16


def test_shear_moves_rows_against_each_other_and_keeps_them_level():
    column = torch.zeros(64, 1, 21, 21)
    column[:, :, :, 10] = 1
    crops = draw_crops(64, (1.0, 1.0), seeded(), ratio=(1.0, 1.0), flip=0.0, shear=0.5)
    sheared = sample(column, crops, 21, turned=True)
    top, middle = sheared[:, 0, 2].argmax(dim=1), sheared[:, 0, 10].argmax(dim=1)
    assert (middle == 10).all() and top.min() < 8 and top.max() > 12
