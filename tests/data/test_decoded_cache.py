"""What was decoded once is found by the next command, bit for bit, and never where it is not the same any more."""

import os
import sys

import numpy as np
import pytest
import torch
from datasets import Dataset, Image
from PIL import Image as Pillow

from hf_vipriors.data import ResizeCrop, build_store, decoded_cache, exact_copies, store_preparation
from hf_vipriors.data.decoded_cache import Form, Kept, make_room
from hf_vipriors.data.survey import survey

GEOMETRY = ResizeCrop(20, 16)
NUMBERS = Form("numbers", 4, lambda value: value, bytes)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where everything is kept, however quickly it was made."""
    monkeypatch.setenv("HF_VIPRIORS_STORE", str(tmp_path / "kept"))
    monkeypatch.setattr(decoded_cache, "WORTH_KEEPING", 0.0)
    return tmp_path / "kept"


@pytest.fixture
def files(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(6):
        pixels = generator.integers(0, 256, (24 + number, 30, 3), dtype=np.uint8)
        Pillow.fromarray(pixels).save(tmp_path / f"{number}.png")
    return [tmp_path / f"{number}.png" for number in range(6)]


@pytest.fixture
def decoded(monkeypatch):
    """The images that were decoded."""
    seen, read = [], store_preparation.read_square

    def read_square(record, *rest, **more):
        seen.append(record)
        return read(record, *rest, **more)

    monkeypatch.setattr(store_preparation, "read_square", read_square)
    return seen


def table(files, embedded=False):
    records = [{"bytes": file.read_bytes() if embedded else None, "path": str(file)} for file in files]
    return Dataset.from_dict({"image": records}).cast_column("image", Image(decode=False))


def pixels(files, geometry=GEOMETRY, **options):
    return build_store(table(files, **options), geometry).images


@pytest.mark.parametrize("embedded", [False, True])
def test_the_next_command_decodes_nothing_whatever_it_takes_of_the_images(files, place, decoded, embedded):
    first = pixels(files, embedded=embedded)
    assert len(decoded) == 6
    again = pixels([files[4], files[1]], embedded=embedded)
    assert len(decoded) == 6 and torch.equal(again, first[[4, 1]])
    again[:] = 0  # what a training does to its images is not what is kept
    assert torch.equal(pixels(files, embedded=embedded), first)


def test_a_changed_file_and_another_geometry_are_decoded_anew(files, place, decoded):
    first = pixels(files)
    Pillow.new("RGB", (30, 24), "red").save(files[0])
    os.utime(files[1], ns=(1, 1))
    assert pixels(files)[0].float().mean((1, 2)).tolist() == [255, 0, 0]
    assert len(decoded) == 8
    assert not torch.equal(pixels(files, ResizeCrop(16, 16)), first) and len(decoded) == 14


def cut_off(rows, index):
    with open(rows, "r+b") as file:
        file.truncate(1000)


def altered(rows, index):
    with open(rows, "r+b") as file:
        file.seek(5)
        file.write(b"x")


def no_index_but_noise(rows, index):
    index.write_bytes(b"noise")


@pytest.mark.parametrize("damage", [cut_off, altered, no_index_but_noise])
def test_damaged_rows_are_noticed_and_made_again(files, place, decoded, damage, caplog):
    first = pixels(files)
    width = 3 * 16 * 16
    (rows,) = [path for path in place.rglob("*.rows") if path.stat().st_size == 6 * width]
    damage(rows, rows.with_suffix(".npy"))
    assert torch.equal(pixels(files), first)
    assert "decoded again" in caplog.text and not rows.exists()
    count = len(decoded)
    assert count > 6 and torch.equal(pixels(files), first) and len(decoded) == count


def test_quick_work_is_not_kept_and_nowhere_means_nowhere(files, place, monkeypatch):
    monkeypatch.setattr(decoded_cache, "WORTH_KEEPING", 60)
    pixels(files)
    monkeypatch.setattr(decoded_cache, "WORTH_KEEPING", 0)
    monkeypatch.setenv("HF_VIPRIORS_STORE", "none")
    pixels(files)
    assert not place.exists()


@pytest.mark.parametrize("when", ["_write", "_finish"])
def test_a_full_disk_ends_nothing_and_leaves_nothing(files, place, monkeypatch, caplog, when):
    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Kept, when, full)
    assert len(pixels(files)) == 6
    assert caplog.text.count("No space left on device") == 1 and "--store" in caplog.text
    assert not list(place.rglob("*.*"))


def test_more_than_the_limit_is_not_begun(files, place, monkeypatch, caplog):
    monkeypatch.setattr(decoded_cache, "LIMIT", 100)  # enough for headers
    assert len(pixels(files)) == 6
    assert "are more than the" in caplog.text and all(path.stat().st_size <= 100 for path in place.rglob("*.rows"))


def kept_number(path, number):
    path.write_bytes(bytes([number]) * (number + 1))
    rows = Kept(NUMBERS, 1)
    record = {"bytes": None, "path": str(path)}
    key, found = rows.find(record)
    if found is None:
        rows.add(key, bytes([number] * 4))
    rows.close()
    return found


def test_what_was_not_used_for_longest_goes_first(tmp_path, place):
    for number in range(3):
        assert kept_number(tmp_path / f"{number}", number) is None
    shards = sorted(place.rglob("*.npy"), key=lambda path: np.load(path)["key"].tobytes())
    assert len(shards) == 3
    for age, shard in enumerate(shards):
        os.utime(shard, (1e9 + age, 1e9 + age))
    abandoned, at_work = (place / shards[0].parent.name / f"{name}.rows" for name in ("abandoned", "at_work"))
    abandoned.write_bytes(b"1234")
    os.utime(abandoned, (1e9, 1e9))
    at_work.write_bytes(b"1234")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoded_cache, "LIMIT", 16)
        make_room(place, 4)
    assert not abandoned.exists() and at_work.exists()
    assert [shard.exists() for shard in shards] == [False, True, True]
    assert [shard.with_suffix(".rows").exists() for shard in shards] == [False, True, True]


def test_two_commands_at_once_do_not_disturb_each_other(tmp_path, place):
    path = tmp_path / "one"
    path.write_bytes(b"1")
    both = [Kept(NUMBERS, 1), Kept(NUMBERS, 1)]
    for rows in both:
        rows.add(rows.find({"bytes": None, "path": str(path)})[0], b"same")
    for rows in both:
        rows.close()
    assert Kept(NUMBERS, 1).find({"bytes": None, "path": str(path)})[1] == b"same"


def test_looks_digests_and_verified_images_come_back_as_they_were(files, place, monkeypatch):
    gray = files[0].with_name("gray.png")
    Pillow.linear_gradient("L").save(gray)
    (broken := files[0].with_name("broken.png")).write_bytes(b"no image")
    images = table([*files, gray, broken])

    def everything():
        found = survey({"train": images})
        copies = exact_copies.copies_between({"train": images}, {"test": table([files[2]])})
        streamed = build_store(images, GEOMETRY, memory_share=0, on_bad_image="skip")
        prints = [(each.digest, each.phash.tolist(), each.thumbnail.tolist()) for each in found.prints]
        return found.sizes.tolist(), found.gray.tolist(), prints, found.unreadable, copies, streamed.shape

    def once(module, name):
        work = getattr(module, name)

        def only_what_is_broken(record, *rest, **more):
            file = record["bytes"] or open(record["path"], "rb").read()
            assert file == b"no image", "this was looked at before"
            return work(record, *rest, **more)

        monkeypatch.setattr(module, name, only_what_is_broken)

    first = everything()
    for module, name in [("store_preparation", "read_pixels"), ("exact_copies", "read_pixels"), ("survey", "_read")]:
        once(sys.modules[f"hf_vipriors.data.{module}"], name)
    assert everything() == first


def test_the_folder_can_be_anything_that_a_path_can_be(files, tmp_path, monkeypatch, decoded):
    monkeypatch.setattr(decoded_cache, "WORTH_KEEPING", 0.0)
    decoded_cache.keep_decoded(str(tmp_path / "a folder" / "ü"))
    try:
        pixels(files)
        pixels(files)
    finally:
        monkeypatch.setenv("HF_VIPRIORS_STORE", "none")
    assert len(decoded) == 6 and list((tmp_path / "a folder").rglob("*.npy"))
