"""AutoAugment of each image, beside kornia's of a whole batch."""

import numpy as np
import pytest
import torch
from kornia.augmentation.auto import AutoAugment as Kornias

from hf_vipriors.views.autoaugment import COLOURS, AutoAugment, moved
from hf_vipriors.views.operations import LAYERS, OPERATIONS, recoloured

LEARNT = ("cifar10", "imagenet")
SIDE = 24
NAMES = {
    "AutoContrast": "autocontrast",
    "Saturate": "color",
    "ShearX": "shear_x",
    "ShearY": "shear_y",
    "TranslateX": "translate_x",
    "TranslateY": "translate_y",
}
# What kornia calls an operation's size, and from it ours.
UNITS = {
    "rotate": ("degrees", lambda degrees: np.radians(degrees)),
    "shear_x": ("shear_x", lambda degrees: np.tan(np.radians(degrees))),
    "shear_y": ("shear_y", lambda degrees: np.tan(np.radians(degrees))),
    "translate_x": ("translate_x", lambda pixels: -pixels / SIDE),
    "translate_y": ("translate_y", lambda pixels: -pixels / SIDE),
    "solarize": ("thresholds", lambda share: share),
    "posterize": ("bits_factor", lambda bits: bits),
    "brightness": ("brightness_factor", lambda factor: factor),
    "color": ("saturation_factor", lambda factor: factor),
    "contrast": ("contrast_factor", lambda factor: factor),
    "sharpness": ("sharpness", lambda factor: factor),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=16, channels=3):
    """Noise and smooth ones. (One of a single value is made black by kornia, and stays here as with Pillow.)"""
    made = torch.randint(0, 256, (count, channels, SIDE, SIDE), generator=seeded(7))
    made[1:3] = torch.arange(SIDE) * 5 + 40
    return made.float() / 255


def kornias(policy):
    """(name, kornia's operation) of each layer of each pair."""
    for pair in Kornias(policy).children():
        layers = [(name.split("_")[0], operation) for name, operation in pair.named_children()]
        yield [(NAMES.get(name, name.lower()), operation) for name, operation in layers]


def sizes_of(name, operation, shape):
    """What kornia draws, and our sizes for it."""
    torch.manual_seed(0)
    drawn = operation.forward_parameters(torch.Size(shape))
    key, ours = UNITS.get(name, (None, None))
    return drawn, np.ones(shape[0]) if key is None else ours(drawn[key].double().numpy())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", LEARNT)
def test_operations_are_those_of_kornia(policy, channels):
    raw = images(channels=channels)
    for name, operation in (each for pair in kornias(policy) for each in pair if each[1].op.p):
        drawn, sizes = sizes_of(name, operation, raw.shape)
        drawn["batch_prob"] = torch.ones(len(raw))
        # kornia wants three channels for the saturation.
        want = operation(raw.expand(-1, 3, -1, -1), params=drawn)[:, :channels]
        numbers = np.full(len(raw), OPERATIONS.index(name))
        got = recoloured(moved(raw.clone(), numbers, sizes), numbers, sizes, COLOURS)
        torch.testing.assert_close(got, want, rtol=0, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}")
        assert name in ("autocontrast", "posterize") or (name, channels) == ("color", 1) or not torch.equal(got, raw)


@pytest.mark.parametrize("policy", LEARNT)
def test_pairs_and_sizes_are_drawn_as_kornia_does(policy):
    """Each operation as often, with sizes from the same range."""
    count = 25 * 4000
    numbers, sizes = AutoAugment(policy).draw(count, seeded())
    assert numbers.shape == sizes.shape == (LAYERS, count)
    wanted: dict = {}
    for layer, name, operation in ((at, *each) for pair in kornias(policy) for at, each in enumerate(pair)):
        chance, found = wanted.get((layer, name), (0.0, []))
        if name in UNITS and operation.op.p:
            found.append(sizes_of(name, operation, (2000, 1, SIDE, SIDE))[1])
        wanted[layer, name] = chance + operation.op.p / 25, found
    for (layer, name), (chance, found) in wanted.items():
        chosen = numbers[layer] == OPERATIONS.index(name)
        assert chosen.mean() == pytest.approx(chance, abs=0.005)
        if found:
            # Which of the two directions is one's choice of axes; images are flipped.
            got, want = (np.abs(each) if name.startswith(("rotate", "shear", "translate")) else each
                         for each in (sizes[layer][chosen], np.concatenate(found)))  # fmt: skip
            for end in (np.min, np.max):
                assert end(got) == pytest.approx(end(want), abs=0.03 * max(np.ptp(want), 0.01))


def test_each_image_has_a_pair_of_its_own():
    """Together as one after another."""
    raw, policy = images(40), AutoAugment("imagenet")
    together = policy(raw.clone(), seeded(3))
    layers = list(zip(*policy.draw(40, seeded(3)), strict=True))
    for row in range(40):
        alone = raw[row : row + 1].clone()
        for numbers, sizes in layers:
            one = numbers[row : row + 1], sizes[row : row + 1]
            alone = recoloured(moved(alone, *one), *one, COLOURS)
        torch.testing.assert_close(together[row : row + 1], alone)
    assert 10 < (together != raw).flatten(1).any(dim=1).sum() < 40, "some images are changed, others left"
