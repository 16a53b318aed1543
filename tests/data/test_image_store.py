"""The stores: right pixels, right labels, right index, the same from memory and streamed, bad images named."""

import io
import logging

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from torch.utils.data import DataLoader

from hf_vipriors.data import ImageStore, ResizeCrop, StreamedStore, build_store, collate, decode, train_geometry
from hf_vipriors.errors import InputError

GEOMETRY = ResizeCrop(resize=10, crop=8)
STREAM = {"memory_share": 0.0}


def png(mode="RGB", size=(14, 11), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def dataset(images, labels=None, **more):
    """A data set from bytes or paths."""
    features = Features({"image": Image(decode=False)})
    columns = {
        "image": [
            {"bytes": image, "path": None} if isinstance(image, bytes) else {"bytes": None, "path": str(image)}
            for image in images
        ],
        **more,
    }
    if labels is not None:
        columns["label"] = labels
        features["label"] = Value("int64")
    for name in more:
        features[name] = Value("string")
    return Dataset.from_dict(columns, features=features)


def photos(count, mode="RGB", first_seed=0):
    return [png(mode, (14 + seed % 5, 11 + seed % 3), first_seed + seed) for seed in range(count)]


def everything(store):
    return store.__getitems__(list(range(len(store))))


def assert_equal_batches(first, second):
    assert first.keys() == second.keys() == {"pixel_values", "labels", "index"}
    for name in first:
        assert first[name].dtype == second[name].dtype and first[name].stride() == second[name].stride()
        assert torch.equal(first[name], second[name])


@pytest.mark.parametrize("options", [{}, STREAM], ids=["memory", "streamed"])
def test_pixels_labels_and_index_of_each_image(options):
    labels = [3, 1, 2, 0, 3, 1]
    data = dataset(photos(6), labels)
    store = build_store(data, GEOMETRY, **options)
    assert isinstance(store, StreamedStore if options else ImageStore)
    assert len(store) == 6 and store.shape == (6, 3, 8, 8)
    batch = store.__getitems__([4, 0, 5])
    assert batch["pixel_values"].dtype == torch.uint8 and batch["labels"].dtype == torch.int64
    assert batch["labels"].tolist() == [3, 3, 1] and batch["index"].tolist() == [4, 0, 5]
    for position, row in enumerate([4, 0, 5]):
        expected = np.asarray(GEOMETRY(decode(data[row]["image"])))
        assert np.array_equal(batch["pixel_values"][position].permute(1, 2, 0).numpy(), expected)


def test_streamed_and_in_memory_give_the_same_tensors():
    parts = [dataset(photos(5), [0, 1, 2, 3, 4]), dataset(photos(4, "L", 50))]
    held, streamed = build_store(parts, GEOMETRY), build_store(parts, GEOMETRY, **STREAM)
    assert held.shape == streamed.shape and held.nbytes == 9 * 3 * 8 * 8 and streamed.nbytes == 0
    assert torch.equal(held.labels, streamed.labels)
    for indices in ([0], [8, 3, 3, 1], list(range(9))):
        assert_equal_batches(held.__getitems__(indices), streamed.__getitems__(indices))
    for i in (0, 7, -1):
        assert_equal_batches(held[i], streamed[i])
        assert held[i]["pixel_values"].shape == (3, 8, 8) and held[i]["index"].item() == i % 9
    for store in (held, streamed):
        with pytest.raises(IndexError):
            store[9]


def test_parts_are_concatenated_and_missing_labels_are_minus_one():
    store = build_store([dataset(photos(2), [7, 8]), dataset(photos(3, first_seed=9))], GEOMETRY)
    assert everything(store)["labels"].tolist() == [7, 8, -1, -1, -1]
    alone = build_store(dataset(photos(3, first_seed=9)), GEOMETRY)
    assert torch.equal(store.images[2:], alone.images)


def test_a_selection_is_read_in_its_own_order():
    data = dataset(photos(6), [0, 1, 2, 3, 4, 5])
    whole, some = build_store(data, GEOMETRY), build_store(data.select([5, 1, 2]), GEOMETRY)
    assert torch.equal(some.images, whole.images[[5, 1, 2]]) and some.labels.tolist() == [5, 1, 2]


@pytest.mark.parametrize("options", [{}, STREAM], ids=["memory", "streamed"])
def test_one_channel_only_when_every_image_is_grey(options):
    grey = [png("L"), png("1"), png("LA", seed=3)]
    assert build_store(dataset(grey), GEOMETRY, **options).shape == (3, 1, 8, 8)
    mixed = build_store(dataset([*grey, png("P")]), GEOMETRY, **options)
    assert mixed.shape == (4, 3, 8, 8)
    pixels = everything(mixed)["pixel_values"]
    assert torch.equal(pixels[0, 0], pixels[0, 2]) and not torch.equal(pixels[3, 0], pixels[3, 2])
    assert torch.equal(pixels[:3, :1], everything(build_store(dataset(grey), GEOMETRY))["pixel_values"])


def test_more_images_than_are_read_ahead_stay_in_order(monkeypatch):
    monkeypatch.setattr("hf_vipriors.data.image_records._CHUNK", 4)
    images = photos(11)
    store = build_store(dataset(images, list(range(11))), GEOMETRY)
    for row in (0, 3, 4, 10):
        alone = build_store(dataset([images[row]]), GEOMETRY)
        assert torch.equal(store.images[row], alone.images[0]) and store.labels[row] == row


@pytest.mark.parametrize("options", [{}, STREAM], ids=["memory", "streamed"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_hands_out_whole_batches(workers, options):
    store = build_store(dataset(photos(7), list(range(7))), GEOMETRY, **options)
    batches = list(DataLoader(store, batch_size=3, collate_fn=collate, num_workers=workers))
    assert [len(batch["labels"]) for batch in batches] == [3, 3, 1]
    joined = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    assert_equal_batches(joined, everything(store))


# --- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("processes", "kind"), [("1", ImageStore), ("2", StreamedStore)])
def test_images_beyond_their_share_of_the_memory_are_streamed(processes, kind, monkeypatch, caplog):
    needed = 4 * 3 * 8 * 8

    class Memory:
        available = 2 * needed

    monkeypatch.setattr("psutil.virtual_memory", Memory)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    with caplog.at_level(logging.INFO, "hf_vipriors.data"):
        store = build_store(dataset(photos(4)), GEOMETRY, memory_share=0.5, name="unlabelled")
    assert type(store) is kind
    (line,) = [record.getMessage() for record in caplog.records if "unlabelled: 4 images" in record.getMessage()]
    assert ("streamed" in line) == (kind is StreamedStore) and "MiB" in line


# --- bad images -------------------------------------------------------------------------------------------------

TRUNCATED = png(size=(60, 60))[:-4000]  # a whole header: only decoding finds out
NO_IMAGE = b"no image"
EMPTY = b""


@pytest.mark.parametrize("bad", [TRUNCATED, NO_IMAGE, EMPTY], ids=["truncated", "no image", "empty"])
def test_an_unreadable_image_is_named_by_path_or_by_row(bad, tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(bad)
    good = photos(3)
    cases = {
        repr(str(path)): [dataset([*good, path])],
        "train row 3": [dataset([*good, bad])],
        "unlabelled row 70": [
            dataset(good),
            dataset([good[0], bad], origin=["unlabelled row 8", "unlabelled row 70"]),
        ],
    }
    for place, parts in cases.items():
        with pytest.raises(InputError, match="on_bad_image skip") as raised:
            build_store(parts, GEOMETRY)
        assert (
            f"unreadable image {place}: " in raised.value.on_command_line and "\n" not in raised.value.on_command_line
        )


def test_skipped_images_are_counted_and_labels_stay_aligned(caplog):
    images = photos(6)
    images[1], images[4] = NO_IMAGE, TRUNCATED
    store = build_store(dataset(images, [0, 1, 2, 3, 4, 5]), GEOMETRY, on_bad_image="skip")
    whole = build_store(dataset(photos(6)), GEOMETRY)
    assert store.labels.tolist() == [0, 2, 3, 5] and everything(store)["index"].tolist() == [0, 1, 2, 3]
    assert torch.equal(store.images, whole.images[[0, 2, 3, 5]])
    messages = [record.getMessage() for record in caplog.records]
    assert sum("unreadable image train row" in message for message in messages) == 2
    assert "train: 2 of 6 images are unreadable and were skipped" in messages


def test_only_the_first_few_skipped_images_are_logged(caplog):
    build_store(dataset([*photos(2), *[NO_IMAGE] * 9]), GEOMETRY, on_bad_image="skip")
    assert sum("unreadable image" in record.getMessage() for record in caplog.records) == 5
    assert "train: 9 of 11 images are unreadable and were skipped" in caplog.messages


def test_a_streamed_store_finds_bad_images_before_training(tmp_path):
    images = photos(6)
    images[1], images[4] = NO_IMAGE, TRUNCATED
    store = build_store(dataset(images, [0, 1, 2, 3, 4, 5]), GEOMETRY, on_bad_image="skip", **STREAM)
    assert store.labels.tolist() == [0, 2, 3, 5]
    assert store.__getitems__([0, 1, 3])["labels"].tolist() == [0, 2, 5]
    with pytest.raises(InputError, match="unreadable image train row 4: "):
        build_store(dataset([*photos(4), TRUNCATED]), GEOMETRY, **STREAM)


def test_a_streamed_store_names_what_breaks_later(tmp_path):
    path = tmp_path / "changing.png"
    path.write_bytes(png())
    store = build_store(dataset([path, *photos(2)]), GEOMETRY, **STREAM)
    path.write_bytes(png()[:40])
    assert store.__getitems__([1, 2])["index"].tolist() == [1, 2]
    with pytest.raises(InputError, match="changing.png"):
        store.__getitems__([0, 1])


def test_a_missing_image_and_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="nowhere.png': no such file"):
        build_store(dataset([tmp_path / "nowhere.png"]), GEOMETRY)
    rows = Dataset.from_dict({"image": [None]}, features=Features({"image": Image(decode=False)}))
    with pytest.raises(InputError, match="train row 0: the row holds no image"):
        build_store(rows, GEOMETRY)


def test_a_decompression_bomb_is_a_bad_image(monkeypatch):
    data = dataset([png(size=(40, 40))])
    monkeypatch.setattr(PILImage, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="decompression bomb"):
        build_store(data, GEOMETRY)


def test_running_out_of_memory_is_not_blamed_on_the_image(monkeypatch):
    def exhausted(*_):
        raise MemoryError

    data = dataset(photos(2))
    monkeypatch.setattr("hf_vipriors.data.image_decoding.read_pixels", exhausted)
    with pytest.raises(MemoryError):
        build_store(data, GEOMETRY, on_bad_image="skip")


@pytest.mark.parametrize("options", [{}, STREAM], ids=["memory", "streamed"])
@pytest.mark.parametrize("bad", [[], [NO_IMAGE] * 2])
def test_no_image_at_all_is_refused(bad, options):
    with pytest.raises(InputError, match="no test images|none of the 2 test images can be read"):
        build_store(dataset(bad), GEOMETRY, on_bad_image="skip", name="test", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_bad_image": "skipp"}, "did you mean 'skip'"),
        ({"memory_share": 1.5}, "from 0 to 1"),
        ({"memory_share": -0.5}, "from 0 to 1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        build_store(dataset(photos(1)), GEOMETRY, **options)


def test_a_store_refuses_tensors_that_do_not_fit():
    images, labels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4)
    assert len(ImageStore(images, labels)) == 4
    for wrong in ((images.float(), labels), (images[:, :2], labels), (images, labels[:3]), (images, labels.int())):
        with pytest.raises(ValueError, match="must be"):
            ImageStore(*wrong)


# --- geometry -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "size", "side"),
    [
        ([(30, 20), (28, 28)], 224, 28),  # small images are kept as they are
        ([(30, 20), (28, 28)], 21, 24),  # floor(21 / 0.875)
        ([(300, 20), (500, 19)], 32, 20),  # the shorter side counts
    ],
)
def test_train_geometry_never_invents_pixels(sizes, size, side):
    data = dataset([png(size=(width, height)) for width, height in sizes])
    assert train_geometry(data, size, "bilinear") == ResizeCrop(side, side, "bilinear")


def test_train_geometry_looks_at_every_part_and_passes_over_bad_images():
    parts = [dataset([png(size=(9, 9)), NO_IMAGE]), dataset([png(size=(15, 16))])]
    assert train_geometry(parts, 64) == ResizeCrop(15, 15)
