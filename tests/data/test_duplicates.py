import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from hf_vipriors.data.duplicates import DuplicateGroups, find_duplicates, fingerprint, overlaps


def photograph(seed, size=(120, 90)):
    """Something with large and small structure, unlike any other seed's."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noisy = np.asarray(coarse, dtype=np.int16) + random.integers(-12, 13, (size[1], size[0], 1), dtype=np.int16)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def recoded(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def groups_of(images, **options):
    return find_duplicates([fingerprint(image) for image in images], **options)


@pytest.mark.parametrize(
    "edit",
    [
        lambda image: recoded(image, 30),
        lambda image: image.resize((60, 45)),
        lambda image: image.resize((300, 225)),
        lambda image: ImageEnhance.Brightness(image).enhance(1.01),
    ],
    ids=["jpeg", "smaller", "larger", "brighter"],
)
def test_the_same_image_edited_is_near_but_not_exact(edit):
    images = [photograph(0), photograph(1), edit(photograph(1)), photograph(2)]
    groups = groups_of(images)
    assert groups.near.tolist() == [0, 1, 1, 2]
    assert len(set(groups.exact.tolist())) == 4
    assert [group.tolist() for group in groups.members()] == [[1, 2]]


def test_equal_pixels_are_exact_whatever_the_file():
    buffer = io.BytesIO()
    photograph(3).save(buffer, "PNG")
    groups = groups_of([photograph(3), Image.open(buffer), photograph(4)])
    assert groups.exact.tolist() == groups.near.tolist() == [0, 0, 1]


def test_one_pixel_is_no_longer_exact():
    changed = photograph(5)
    changed.putpixel((3, 3), (0, 0, 0))
    groups = groups_of([photograph(5), changed])
    assert groups.exact.tolist() == [0, 1] and groups.near.tolist() == [0, 0]


def test_flat_images_have_one_hash_but_are_not_the_same():
    flat = [Image.new("RGB", (32, 32), colour) for colour in ((250, 0, 0), (0, 250, 0), (90, 90, 90), (91, 91, 91))]
    prints = [fingerprint(image) for image in flat]
    assert all((each.phash == prints[0].phash).all() for each in prints), "the hash alone would call them all one"
    assert find_duplicates(prints).near.tolist() == [0, 1, 2, 2]


def test_shapes_of_equal_bytes_differ():
    wide, tall = Image.new("L", (8, 4), 7), Image.new("L", (4, 8), 7)
    assert fingerprint(wide).digest != fingerprint(tall).digest


def test_every_pair_is_found_across_blocks():
    """Copies far apart in the list, against a slow loop over all pairs."""
    random = np.random.default_rng(0)
    originals = [photograph(seed, (48, 36)) for seed in range(300)]
    order = random.permutation(600)
    images = [originals[i] if i < 300 else originals[i - 300].resize((96, 72)) for i in order]
    groups = groups_of(images)
    slow = [[i for i, j in enumerate(order % 300) if j == seed] for seed in range(300)]
    assert sorted(group.tolist() for group in groups.members()) == sorted(slow)


def test_above_the_limit_only_equal_pixels_are_compared():
    images = [photograph(0), photograph(0), recoded(photograph(0), 60), photograph(1)]
    assert groups_of(images, near_limit=3).searched_near
    groups = groups_of(images, near_limit=2)
    assert not groups.searched_near and groups.near.tolist() == [0, 0, 1, 2]


def test_many_alike_chain_into_one_group():
    images = [Image.new("L", (32, 32), 100 + (i % 3)).resize((20 + i, 30)) for i in range(200)]
    assert len(groups_of(images).members()) == 1


def test_nothing_is_no_duplicate():
    groups = find_duplicates([])
    assert groups.members() == [] and overlaps(groups, np.array([], dtype=int), ["train"]) == []


def test_overlaps_count_the_later_split_and_what_is_once_too_often():
    exact = np.array([0, 0, 0, 1, 0, 2, 3])
    near = np.array([0, 0, 0, 1, 0, 0, 1])
    split = np.array([0, 0, 1, 1, 2, 2, 2])
    found = {
        (o.first, o.second): (o.exact, o.near)
        for o in overlaps(DuplicateGroups(exact, near, True), split, list("abc"))
    }
    assert found == {
        ("a", "a"): (1, 0),
        ("a", "b"): (1, 0),
        ("a", "c"): (1, 1),
        ("b", "c"): (1, 2),
        ("c", "c"): (0, 1),
    }
