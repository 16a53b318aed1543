import torch
from torch.nn import functional as F

from hf_vipriors.views import ContrastiveViews
from hf_vipriors.views.blur import random_blur
from hf_vipriors.views.colour import colour_jitter, random_grayscale
from hf_vipriors.views.sampling import (
    Normalise,
    draw_crops,
    on_device,
    random_resized_crop,
    sample,
    to_float,
    view_in_blocks,
)

STATS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_upright_crops_are_sampled_as_by_an_affine_grid():
    images = torch.rand(20, 3, 30, 30, generator=seeded())
    affine = draw_crops(20, (0.2, 1.0), seeded(1))
    grid = F.affine_grid(affine, [20, 3, 24, 24], align_corners=False)
    want = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    torch.testing.assert_close(sample(images, affine, 24), want, rtol=0, atol=1e-5)


def test_a_turned_crop_reaches_over_the_border_and_sees_it_reflected():
    images = torch.rand(4, 1, 24, 24, generator=seeded())
    turned = random_resized_crop(images, 24, (1.0, 1.0), seeded(), ratio=(1, 1), flip=0.0, rotation=45.0)
    upright = random_resized_crop(images, 24, (1.0, 1.0), seeded(), ratio=(1, 1), flip=0.0)
    assert (turned - upright).abs().amax(dim=(1, 2, 3)).min() > 0.1
    assert turned.min() > 0, "no black corners"


def test_blocks_give_what_the_whole_batch_gives():
    """More images than one block holds: the same as the operations one after another."""
    raw = torch.randint(0, 256, (90, 3, 40, 40), generator=seeded(5), dtype=torch.uint8)
    got = ContrastiveViews(64, **STATS, views=1)(raw, seeded(2))[0]
    generator = seeded(2)
    want = random_resized_crop(to_float(raw), 64, (0.2, 1.0), generator)
    want = colour_jitter(want, (0.4, 0.4, 0.4, 0.1), 0.8, generator)
    want = random_grayscale(want, 0.2, generator)
    want = random_blur(want, (0.1, 2.0), 0.5, generator)
    torch.testing.assert_close(got, Normalise(**STATS)(want), rtol=0, atol=2e-5)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_rows_of_blocks_land_where_they_belong():
    raw = torch.arange(200, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 64, 64)
    seen = []

    def make(block, rows):
        seen.append(len(block))
        assert torch.equal((block[:, 0, 0, 0] * 255).round(), torch.arange(200.0)[rows])
        return block * 255

    view = view_in_blocks(raw, 64, make)
    assert torch.equal(view[:, 0, 0, 0].round(), torch.arange(200.0))
    assert len(seen) > 1 and sum(seen) == 200


def test_random_numbers_travel_as_floats_in_one_copy():
    draws = (torch.rand(5, 2, 3), torch.rand(5) < 0.5, torch.arange(5))
    for device in ("cpu", "meta"):
        moved = on_device(torch.device(device), *draws)
        assert [tuple(m.shape) for m in moved] == [(5, 2, 3), (5,), (5,)]
        assert all(m.dtype == torch.float32 and m.device.type == device for m in moved)
    assert torch.equal(on_device(torch.device("cpu"), *draws)[1], draws[1].float())
