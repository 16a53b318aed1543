import torch
from torch.nn import functional as F

from hf_vipriors.views.sampling import draw_crops, on_device, sample


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
    options = {"ratio": (1, 1), "flip": 0.0}
    turned = sample(images, draw_crops(4, (1.0, 1.0), seeded(), **options, rotation=45.0), 24, turned=True)
    upright = sample(images, draw_crops(4, (1.0, 1.0), seeded(), **options), 24)
    assert (turned - upright).abs().amax(dim=(1, 2, 3)).min() > 0.1
    assert turned.min() > 0, "no black corners"


def test_random_numbers_travel_as_floats_in_one_copy():
    draws = (torch.rand(5, 2, 3), torch.rand(5) < 0.5, torch.arange(5))
    for device in ("cpu", "meta"):
        moved = on_device(torch.device(device), *draws)
        assert [tuple(m.shape) for m in moved] == [(5, 2, 3), (5,), (5,)]
        assert all(m.dtype == torch.float32 and m.device.type == device for m in moved)
    assert torch.equal(on_device(torch.device("cpu"), *draws)[1], draws[1].float())
