import pytest
import torch
from kornia.filters import gaussian_blur2d

from hf_vipriors.views.blur import blur, draw_blur


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 32, 65, 224])
def test_blur_is_kornias_of_the_chosen_images(side, channels):
    images = torch.rand(6, channels, side, side, generator=seeded())
    widths = draw_blur(6, (0.1, 2.0), 0.5, seeded(1), side=side)
    sharp = widths == 0
    assert 0 < sharp.sum() < 6
    kernel = max(3, min(int(0.1 * side), side - 1) // 2 * 2 + 1)
    got = blur(images, widths, side)
    want = gaussian_blur2d(images[~sharp], (kernel, kernel), widths[~sharp][:, None].expand(-1, 2))
    torch.testing.assert_close(got[~sharp], want, rtol=0, atol=2e-6)
    assert torch.equal(got[sharp], images[sharp])


def test_a_patch_far_smaller_than_its_view_is_blurred_with_a_kernel_that_fits():
    images = torch.rand(2, 3, 8, 8, generator=seeded())
    got = blur(images, torch.tensor([2.0, 4.0]), 448)
    want = gaussian_blur2d(images, (7, 7), torch.tensor([[2.0, 2.0], [4.0, 4.0]]))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


def test_nothing_to_blur_costs_nothing():
    images = torch.rand(2, 3, 8, 8)
    assert blur(images, torch.zeros(2), 8) is images
