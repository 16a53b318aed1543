"""CIFAR-10's test images that occur twice: the list that ships, and images known by their pixels alone."""

import hashlib
import io
import re

import numpy as np
import pytest
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from hf_vipriors.data import cifair
from hf_vipriors.data.cifair import duplicate_pairs, listed_duplicates

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def table(*files):
    rows = [{"bytes": file, "path": None} for file in files]
    return Dataset.from_dict({"image": rows}, features=Features({"image": ImageFeature(decode=False)}))


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def listed(monkeypatch):
    """The first three of the made images are listed."""
    sums = frozenset(hashlib.sha256(pixels.tobytes()).digest()[:8] for pixels in PIXELS[:3])
    monkeypatch.setattr(cifair, "_listed", lambda: sums)


def test_the_list_is_whole():
    pairs = duplicate_pairs()
    assert len(pairs) == 325 == len({(pair["test"], pair["other_split"], pair["other"]) for pair in pairs})
    sums = {(pair["test"], pair["sha256"]) for pair in pairs}
    assert len(sums) == len({test for test, _ in sums}) == len({each for _, each in sums}) == 308
    assert len(cifair._listed()) == 308 and all(re.fullmatch("[0-9a-f]{16}", each) for _, each in sums)
    splits = {split: [pair for pair in pairs if pair["other_split"] == split] for split in ("train", "test")}
    assert {split: len(found) for split, found in splits.items()} == {"train": 286, "test": 39}
    assert all(0 <= int(pair["test"]) < 10_000 and pair["judgment"] in "12" for pair in pairs)
    assert all(0 <= int(pair["other"]) < 50_000 for pair in splits["train"])
    assert all(int(pair["test"]) < int(pair["other"]) < 10_000 for pair in splits["test"]), "one of each pair stays"


def test_known_by_their_pixels_in_any_order_and_lossless_format(listed):
    opaque = Image.fromarray(PIXELS[2]).convert("RGBA")
    altered = PIXELS[1].copy()
    altered[0, 0, 0] ^= 1
    images = table(
        *(encoded(PIXELS[4]), encoded(PIXELS[1], "BMP"), encoded(altered), encoded(PIXELS[0], "WEBP", lossless=True)),
        *(encoded(opaque), encoded(Image.fromarray(PIXELS[0]).convert("L")), encoded(PIXELS[0, :, :31])),
        encoded(Image.fromarray(np.full((32, 32), 4000, dtype=np.uint16))),
    )
    assert listed_duplicates(images, "test").tolist() == [False, True, False, True, True, False, False, False]


def test_images_that_cannot_be_read_are_left_out_as_a_store_leaves_them(listed):
    whole = encoded(PIXELS[0])
    found = listed_duplicates(table(b"nothing", whole, whole[:200], encoded(PIXELS[3])), "test")
    assert found.tolist() == [True, False]


def test_other_data_sets_are_passed_by(listed, monkeypatch):
    assert listed_duplicates(table(encoded(PIXELS[3]), encoded(PIXELS[4])), "test") is None

    def read(*_):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(cifair, "map_rows", read)
    large = np.zeros((32, 33, 3), dtype=np.uint8)
    assert listed_duplicates(table(encoded(large), encoded(PIXELS[0])), "test") is None
