"""Saliency: it finds the pixels that decide, whatever the network, and leaves the model as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hf_vipriors.models import VipriorsForImageClassification
from hf_vipriors.reports.figure_files import to_png
from hf_vipriors.reports.saliency import overlaid, saliency, saliency_figure


class Corner(nn.Module):
    """Class 0 looks at the upper left quarter alone, class 1 at the lower right one."""

    def forward(self, images):
        half = images.shape[-1] // 2
        return torch.stack(
            [images[..., :half, :half].mean((1, 2, 3)), 2 * images[..., half:, half:].mean((1, 2, 3))], 1
        )


@pytest.fixture
def corner(tiny_config):
    model = VipriorsForImageClassification(tiny_config(classes=2))
    model.backbone = Corner()
    return model


def pictures(count=3, channels=3, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("channels", [1, 3])
def test_it_finds_the_pixels_that_a_class_looks_at(corner, channels):
    maps = saliency(corner, pictures(2, channels), torch.tensor([0, 1]), samples=2, blur=0.0)
    assert maps.shape == (2, 32, 32) and maps.dtype == np.float32
    assert np.allclose(maps[0, :16, :16], 1) and maps[0].sum() == pytest.approx(256)
    assert np.allclose(maps[1, 16:, 16:], 1) and maps[1].sum() == pytest.approx(256)


def test_the_predicted_class_is_explained_unless_another_is_named(corner):
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    images[0, :, :16, :16] = 255
    images[1, :, 16:, 16:] = 255
    found = saliency(corner, images, samples=1, noise=0.0, blur=0.0)
    assert found[0, :16, :16].all() and found[1, 16:, 16:].all() and found.sum() == pytest.approx(512)


def test_the_mean_of_noisy_gradients_is_taken(tiny_config):
    """With one clean copy it is the plain gradient; computed here by hand."""
    torch.manual_seed(0)
    model = VipriorsForImageClassification(tiny_config()).eval()
    images = pictures(2)
    mean, std = (torch.tensor(each)[:, None, None] for each in (model.config.image_mean, model.config.image_std))
    x = ((images / 255 - mean) / std).requires_grad_()
    model(x).logits[:, 2].sum().backward()
    expected = x.grad.abs().amax(dim=1)
    expected = (expected / torch.tensor(np.quantile(expected.flatten(1), 0.99, axis=1))[:, None, None]).clamp(max=1)
    found = saliency(model, images, torch.tensor([2, 2]), samples=1, noise=0.0, blur=0.0)
    assert found == pytest.approx(expected.numpy(), abs=1e-4)
    assert not np.allclose(found, saliency(model, images, torch.tensor([2, 2]), samples=4, blur=0.0), atol=0.05)


@pytest.mark.parametrize("name", ["resnet18", "test_vit", "test_efficientnet"])
def test_any_network_will_do_and_none_is_changed(name, tiny_config):
    torch.manual_seed(0)
    model = VipriorsForImageClassification(tiny_config(name, image_size=64)).train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    images = pictures(5, side=64)
    maps = saliency(model, images, samples=2, batch_size=2)
    assert maps.shape == (5, 64, 64) and 0 <= maps.min() and maps.max() == 1
    # Batch norm would have counted the images, and an optimizer would have stepped along a gradient left behind.
    assert model.training and all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert maps == pytest.approx(saliency(model, images, samples=2, batch_size=5), abs=2e-3)


def test_a_logit_that_no_pixel_moves_gives_an_empty_map(tiny_config):
    model = VipriorsForImageClassification(tiny_config())
    nn.init.zeros_(model.backbone.fc.weight)
    assert not saliency(model, pictures(2), samples=1).any()


def test_blur_spreads_and_evens_out(corner):
    one = saliency(corner, pictures(1), torch.tensor([0]), samples=1, blur=0.0)
    soft = saliency(corner, pictures(1), torch.tensor([0]), samples=1, blur=0.05)
    assert one[0, 4, 17] == 0 < soft[0, 4, 17] < soft[0, 4, 14] <= 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"samples": 0}, "samples"),
        ({"noise": -0.1}, "noise"),
        ({"blur": -1.0}, "blur"),
        ({"classes": torch.tensor([0, 2])}, "classes"),
        ({"classes": torch.tensor([0])}, "classes"),
        ({"images": torch.rand(2, 3, 32, 32)}, "uint8"),
    ],
)
def test_what_cannot_be_explained_is_refused(corner, wrong, message):
    options = {"images": pictures(2), "classes": None} | wrong
    with pytest.raises(ValueError, match=message):
        saliency(corner, **options)


# --- the figure -----------------------------------------------------------------------------------------------------


def test_an_overlay_is_gray_where_nothing_counts_and_orange_where_all_does():
    image = np.stack([np.full((2, 2), value, np.uint8) for value in (30, 60, 90)], axis=2)
    found = overlaid(image, np.array([[0.0, 1.0], [0.5, 0.0]]))
    assert found.dtype == np.uint8 and found[0, 0].tolist() == [36, 36, 36] and found[0, 1].tolist() == [255, 140, 0]
    assert found[1, 0].tolist() == pytest.approx([145.5, 88, 18], abs=0.5)
    assert np.array_equal(overlaid(image[..., :1], np.zeros((2, 2))), overlaid(image[..., 0], np.zeros((2, 2))))


@pytest.mark.parametrize("count", [1, 6, 7])
def test_each_picture_stands_above_its_saliency(count):
    images = [np.full((8, 8, 1 + 2 * (number % 2)), number, np.uint8) for number in range(count)]
    figure = saliency_figure(images, [np.ones((8, 8))] * count, [f"number {number}" for number in range(count)])
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == 2 * count and to_png(figure)
    titled = [axes for axes in drawn if axes.get_title()]
    assert sorted(axes.get_title() for axes in titled) == [f"number {number}" for number in range(count)]
    for axes in titled:
        assert np.all(axes.images[0].get_array() == int(axes.get_title().split()[1]))
