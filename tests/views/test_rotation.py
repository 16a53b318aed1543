import pytest
import torch

from hf_vipriors.views import ClassificationViews, RotationViews
from hf_vipriors.views.sampling import to_float

PLAIN = {"mean": [0.0] * 3, "std": [1.0] * 3}
SIDE = 40


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def compasses(count, height=SIDE, width=SIDE):
    """Red grows to the right, green downwards; blue is the number of the image: any crop shows how it was turned."""
    image = torch.zeros(count, 3, height, width)
    image[:, 0] = torch.linspace(20, 230, width)
    image[:, 1] = torch.linspace(20, 230, height)[:, None]
    image[:, 2] = 10 * torch.arange(count).view(-1, 1, 1)
    return image.to(torch.uint8)


def growth(rows):
    """``(N, 2)``: by how much each one-channel image grows to the right and downwards, from edge to edge."""
    right = (rows[..., -1] - rows[..., 0]).mean(dim=-1)
    down = (rows[..., -1, :] - rows[..., 0, :]).mean(dim=-1)
    return torch.stack([right, down], dim=-1)


def direction(rows):
    """``(N, 2)`` of -1, 0, 1."""
    grown = growth(rows)
    return torch.where(grown.abs() > 0.05, grown.sign(), 0).int()


# Counter-clockwise: what pointed right points up, left, down; what pointed down points right, up, left.
RIGHT = torch.tensor([[1, 0], [0, -1], [-1, 0], [0, 1]], dtype=torch.int32)
DOWN = torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]], dtype=torch.int32)


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (30, 50)])
def test_four_rows_are_one_image_turned_counter_clockwise(shape):
    (rows,) = RotationViews(16, **PLAIN, flip=0.0)(compasses(6, *shape), seeded())
    assert rows.shape == (24, 3, 16, 16)
    assert torch.equal(direction(rows[:, 0]), RIGHT.repeat(6, 1))
    assert torch.equal(direction(rows[:, 1]), DOWN.repeat(6, 1))
    number = (rows[:, 2].mean(dim=(1, 2)) * 25.5).round().int()
    assert number.tolist() == [i for i in range(6) for _ in range(4)]


def test_flip_is_left_right_of_the_upright_image_and_shared_by_its_four():
    (rows,) = RotationViews(16, **PLAIN, flip=0.5)(compasses(24), seeded())
    red, green = (direction(rows[:, channel]).unflatten(0, (24, 4)) for channel in (0, 1))
    assert torch.equal(green, DOWN.expand(24, -1, -1)), "never upside down"
    sign = red[:, 0, :1]
    assert set(sign.flatten().tolist()) == {-1, 1}
    assert 4 < (sign < 0).sum() < 20
    assert torch.equal(red, sign[:, None] * RIGHT)
    (all_flipped,) = RotationViews(16, **PLAIN, flip=1.0)(compasses(3), seeded())
    assert torch.equal(direction(all_flipped[::4, 0]), -RIGHT[:1].expand(3, -1))


def test_each_row_has_a_crop_of_its_own():
    (rows,) = RotationViews(16, **PLAIN, crop_scale=(0.3, 0.6), flip=0.0)(compasses(8), seeded())
    upright = torch.stack([torch.rot90(rows[turn::4], -turn, dims=(2, 3)) for turn in range(4)], dim=1)
    corner = upright[:, :, :2, 0, 0]  # where in the image the crop begins
    for image in corner:
        assert (torch.cdist(image, image) + torch.eye(4) > 1e-3).all()


def test_crops_aside_the_rows_are_exact_rotations_of_the_upright_view(monkeypatch):
    monkeypatch.setattr("hf_vipriors.views.classification.render", lambda images, *_: to_float(images))
    raw = torch.randint(0, 256, (5, 3, 12, 12), generator=seeded(), dtype=torch.uint8)
    (rows,) = RotationViews(12, **PLAIN)(raw, seeded())
    for turn in range(4):
        assert torch.equal(rows[turn::4], torch.rot90(raw.float() / 255, turn, dims=(2, 3)))


def test_gray_images():
    gray = compasses(5)[:, :1]
    (rows,) = RotationViews(16, **PLAIN, flip=0.0)(gray, seeded())
    assert rows.shape == (20, 3, 16, 16)
    assert torch.equal(rows[:, 0], rows[:, 1]) and torch.equal(rows[:, 0], rows[:, 2])
    assert torch.equal(direction(rows[:, 0]), RIGHT.repeat(5, 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", [None, "cifar10", "imagenet", "randaugment"])
def test_a_view_depends_on_its_generator_alone(channels, policy):
    views = RotationViews(16, **PLAIN, auto_augment=policy)
    raw = compasses(4)[:, :channels]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    (first,) = views(raw, seeded(3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(views(raw, seeded(3))[0], first)
    assert not torch.equal(views(raw, seeded(4))[0], first)
    assert first.shape == (16, 3, 16, 16) and first.isfinite().all()


def test_auto_augment_changes_some_rows_of_one_image_and_leaves_others():
    options = {"crop_scale": (0.5, 1.0), "flip": 0.5}
    raw = compasses(8)
    plain = RotationViews(16, **PLAIN, **options)(raw, seeded())[0]
    augmented = RotationViews(16, **PLAIN, **options, auto_augment="cifar10")(raw, seeded())[0]
    changed = ((augmented - plain).abs().flatten(1).amax(dim=1) > 0.1).unflatten(0, (8, 4))
    assert changed.any(dim=1).sum() >= 6 and not changed.all()
    assert (changed.any(dim=1) & ~changed.all(dim=1)).any(), "drawn for each row, not for each image"


def test_normalised_as_every_view():
    stats = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
    (plain,), (rows,) = (RotationViews(16, **s)(compasses(2), seeded()) for s in (PLAIN, stats))
    want = (plain - torch.tensor(stats["mean"]).view(3, 1, 1)) / torch.tensor(stats["std"]).view(3, 1, 1)
    torch.testing.assert_close(rows, want)
    assert rows.is_contiguous(memory_format=torch.channels_last)
    assert isinstance(RotationViews(16, **PLAIN), ClassificationViews)


def test_refuses_float_images_and_unknown_policies():
    with pytest.raises(ValueError, match="uint8"):
        RotationViews(16, **PLAIN)(compasses(2).float(), seeded())
    with pytest.raises(ValueError, match="auto_augment"):
        RotationViews(16, **PLAIN, auto_augment="cifar")
