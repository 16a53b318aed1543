import io

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import ExifTags
from PIL import Image as Pillow

from hf_vipriors.data.duplicates import find_duplicates
from hf_vipriors.data.survey import survey


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed, size=(60, 40), mode="RGB"):
    width, height = size
    values = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Pillow.fromarray(values).resize((width, height)).convert(mode)


def dataset(images, labels=None):
    columns = {"image": [{"bytes": each, "path": None} for each in images]}
    features = Features({"image": Image(decode=False)})
    if labels is not None:
        columns["label"] = labels
        features["label"] = Value("int64")
    return Dataset.from_dict(columns, features=features)


def test_unreadable_images_are_noted_and_the_others_stay_aligned():
    good, half = encoded(noise(0)), encoded(noise(1), "JPEG")[:300]
    found = survey(
        {"train": dataset([good, b"no image", half, encoded(noise(2))], [4, 5, 6, 7]), "test": dataset([good])}
    )
    assert found.names == ["train", "test"] and found.split.tolist() == [0, 0, 1]
    assert found.labels.tolist() == [4, 7, -1] and found.row.tolist() == [0, 3, 0]
    assert set(found.unreadable) == {"train"} and len(found.unreadable["train"]) == 2
    assert "train row 1" in found.unreadable["train"][0]
    assert [found.place(i) for i in range(3)] == ["train row 0", "train row 3", "test row 0"]


@pytest.mark.parametrize("size", [(60, 40), (1600, 1000)], ids=["small", "at a fraction"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8, 99])
def test_sizes_are_of_the_upright_original(size, orientation):
    exif = Pillow.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    found = survey({"train": dataset([encoded(noise(0, size), "JPEG", exif=exif)])})
    assert found.sizes.tolist() == [list(size[::-1] if orientation in (6, 8) else size)]


def test_a_large_jpeg_has_the_fingerprint_of_its_copies():
    large = noise(0, (1600, 1000))
    jpeg = encoded(large, "JPEG", quality=95)
    small = encoded(large.resize((400, 250)))
    groups = find_duplicates(survey({"train": dataset([jpeg, jpeg, small, encoded(noise(1))])}).prints)
    assert groups.exact.tolist() == [0, 0, 1, 2] and groups.near.tolist() == [0, 0, 0, 1]


def test_gray_is_seen_in_colour_files_too():
    images = [noise(0, mode="L"), noise(0, mode="L").convert("RGB"), noise(0)]
    files = [*map(encoded, images), encoded(images[1], "JPEG"), encoded(images[0].convert("I;16"))]
    assert survey({"train": dataset(files)}).gray.tolist() == [True, True, False, True, True]


def test_nothing_readable_is_an_empty_survey():
    found = survey({"train": dataset([b"", b"x"])})
    assert len(found) == 0 and found.sizes.shape == (0, 2) and len(found.unreadable["train"]) == 2
