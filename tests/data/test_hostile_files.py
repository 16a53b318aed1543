"""A folder as the world hands it out: what can be read is read, what cannot be is counted or named, nothing hangs."""

import os
import struct
import time
import unicodedata
import zlib

import numpy as np
import pytest
from PIL import Image

from hf_vipriors.data import ResizeCrop, build_store, load_splits
from hf_vipriors.data.exact_copies import copies_between
from hf_vipriors.data.image_decoding import decode
from hf_vipriors.errors import InputError

GEOMETRY = ResizeCrop(16, 16)


def picture(mode="RGB", width=24, height=20):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def bomb():
    """A valid PNG header of 3.6 gigapixels in two kilobytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    lines = zlib.compress(bytes(7501 * 100), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def write_readable(folder):
    picture().save(folder / "plain.jpg")
    picture().save(folder / "a png called.jpg", format="PNG")
    picture("CMYK").save(folder / "cmyk.jpg")
    picture(width=1, height=1).save(folder / "one pixel.png")
    picture(width=1, height=60_000).save(folder / "strip.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture().save(folder / "turned.jpg", exif=turned)
    for suffix in ("gif", "webp", "png"):
        lossless = {"lossless": True} if suffix == "webp" else {}
        others = [Image.new("RGB", (24, 20), colour) for colour in ("red", "blue")]
        picture().save(folder / f"animated.{suffix}", save_all=True, append_images=others, **lossless)


def write_unreadable(folder):
    whole = (folder / "plain.jpg").read_bytes()
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no image")
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "spoilt.png").write_bytes((folder / "a png called.jpg").read_bytes()[:60] + bytes(2000))


@pytest.fixture
def hostile(tmp_path):
    """``hostile(broken)``: the image folder, with the images that cannot be read or without them."""

    def make(broken):
        folder = tmp_path / "train" / "a class"
        folder.mkdir(parents=True)
        write_readable(folder)
        if broken:
            write_unreadable(folder)
        (folder / "folder.jpg").mkdir()
        (folder / "notes.txt").write_text("not counted")
        return load_splits("imagefolder", data_dir=str(tmp_path)).splits["train"]

    return make


def test_odd_pictures_are_read(hostile):
    images = hostile(broken=False)
    assert build_store(images, GEOMETRY).shape == (9, 3, 16, 16)


def test_broken_pictures_are_skipped_counted_and_said(hostile, caplog):
    with caplog.at_level("INFO"):
        store = build_store(hostile(broken=True), GEOMETRY, on_bad_image="skip")
    assert len(store) == 9 and "5 of 14 images are unreadable and were skipped" in caplog.text
    for file, why in (
        ("bomb.png", "178956970 pixels"),
        ("empty.png", "the file is empty"),
        ("text.jpg", "not an image that pillow knows"),
        ("cut.jpg", "truncated"),
        ("spoilt.png", "broken data stream|broken png"),
    ):
        (line,) = [line for line in caplog.messages if file in line]
        assert any(words in line.lower() for words in why.split("|")), line


def test_a_broken_picture_is_named(hostile):
    with pytest.raises(InputError, match=r"unreadable image '.*bomb\.png': .*on_bad_image skip"):
        build_store(hostile(broken=True), GEOMETRY)


def test_the_first_frame_of_an_animation_counts(hostile):
    for record in hostile(broken=False)["image"]:
        if "animated" in record["path"] and not record["path"].endswith("gif"):  # a GIF has 256 colours
            shown = np.asarray(decode(record))
            assert np.array_equal(shown, np.asarray(picture())), record["path"]


def test_a_strip_of_60000_pixels_is_cut_before_it_is_enlarged():
    # Enlarged first it would be 224 by 13 million pixels: 9 gigabytes.
    strip = picture("L", width=60_000, height=1)
    start = time.perf_counter()
    cut = ResizeCrop(224, 224, "bilinear")(strip)
    assert cut.size == (224, 224) and time.perf_counter() - start < 5
    middle = np.asarray(strip)[0, 29_998:30_002]
    # 224 pixels to each of the strip's: the square shows its middle, half of one neighbour to each side.
    assert middle[1:3].min() - 40 <= np.asarray(cut).min() and np.asarray(cut).max() <= middle.max() + 40


@pytest.mark.parametrize("aspect", [1.0, 3.0, 63.0])
def test_no_other_picture_is_cut_first(aspect):
    image = picture(width=round(8 * aspect), height=8)
    whole = image.resize((round(16 * aspect), 16), Image.Resampling.BICUBIC)
    left = int(round((whole.width - 16) / 2))
    assert np.array_equal(np.asarray(GEOMETRY(image)), np.asarray(whole.crop((left, 0, left + 16, 16))))


def test_a_link_back_to_a_folder_above_is_followed_once(tmp_path):
    folder = tmp_path / "train" / "a class"
    folder.mkdir(parents=True)
    picture().save(folder / "0.png")
    (folder / "up").symlink_to(tmp_path / "train")
    loaded = load_splits("imagefolder", data_dir=str(tmp_path))
    assert [record["path"] for record in loaded.splits["train"]["image"]] == [str(folder / "0.png")]


def test_pictures_outside_of_the_folder_count_where_a_link_leads_to_them(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    picture().save(tmp_path / "elsewhere" / "0.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cats and dogs").symlink_to(tmp_path / "elsewhere")
    loaded = load_splits("imagefolder", data_dir=str(tmp_path / "photos"))
    assert loaded.class_names == ["cats and dogs"] and len(loaded.splits["train"]) == 1


def test_a_class_is_the_same_however_its_accents_are_written(tmp_path):
    name = "crème brûlée 猫"
    for split, form in (("train", "NFC"), ("validation", "NFD")):
        for each in (name, "other"):
            folder = tmp_path / split / unicodedata.normalize(form, each)
            folder.mkdir(parents=True)
            picture().save(folder / "0.png")
    loaded = load_splits("imagefolder", data_dir=str(tmp_path))
    assert loaded.class_names == [unicodedata.normalize("NFC", name), "other"]
    assert list(loaded.splits["validation"]["label"]) == [0, 1]


def test_10000_classes_are_listed_in_seconds(tmp_path):
    picture().save(tmp_path / "one.png")
    for number in range(10_000):
        folder = tmp_path / "photos" / "train" / f"class {number:05d}"
        folder.mkdir(parents=True)
        os.link(tmp_path / "one.png", folder / "0.png")
    start = time.perf_counter()
    loaded = load_splits("imagefolder", data_dir=str(tmp_path / "photos"))
    assert time.perf_counter() - start < 30
    assert len(loaded.class_names) == 10_000 and list(loaded.splits["train"]["label"][-2:]) == [9998, 9999]
    assert max(map(len, loaded.notes)) < 1000, "no line lists them all"


@pytest.mark.parametrize("kind", ["FIFO", "device"])
def test_what_would_be_read_for_ever_is_no_image(kind, hostile, deadline):
    images = hostile(broken=False)
    path = images[0]["image"]["path"]
    os.remove(path)
    os.mkfifo(path) if kind == "FIFO" else os.symlink("/dev/zero", path)
    with pytest.raises(InputError, match=r"unreadable image '.*': it is a FIFO or a device, and no file; mend"):
        build_store(images, GEOMETRY)
    assert len(build_store(images, GEOMETRY, on_bad_image="skip")) == 8
    assert not copies_between({"train": images}, {"test": images.select([0])})


@pytest.mark.parametrize("place", ["train/caf\udce9/0.png", "train/cat/caf\udce9.png", "unlabelled/caf\udce9.png"])
def test_a_path_that_is_not_utf8_is_to_be_renamed(place, tmp_path):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    picture().save(path)
    with pytest.raises(InputError, match=r"caf\\xe9.*' is not UTF-8, .*: rename it$") as error:
        load_splits("imagefolder", data_dir=str(tmp_path))
    error.value.on_command_line.encode()
