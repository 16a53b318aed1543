"""The rebuild program, on idx files written here and, where Debian's package is installed, on the real ones."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from hf_vipriors.data import decode, fashion_files
from hf_vipriors.data.build_fashion import FashionSizes, build, main, occurs_once, read_idx
from hf_vipriors.data.columns import label_array
from hf_vipriors.data.sources import load_splits
from hf_vipriors.errors import InputError

SMALL = FashionSizes(train=2, validation=3, test=4, unlabelled=15)
SYNTHETIC = "idx files written here"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture(scope="module")
def idx_folder(tmp_path_factory):
    """Ten classes of 8 train and 7 test images, with twins inside train, inside test and across the two."""
    folder = tmp_path_factory.mktemp("idx")
    rng = np.random.default_rng(0)
    train, test = (rng.integers(0, 256, (count, 28, 28), dtype=np.uint8) for count in (80, 70))
    train_labels, test_labels = np.arange(80, dtype=np.uint8) % 10, np.arange(70, dtype=np.uint8) % 10
    train[11] = train[1]
    test[12] = test[2]
    test[3] = train[23]
    for name, images, labels in (("train", train, train_labels), ("t10k", test, test_labels)):
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels)
    return folder


def pictures(path):
    loaded = load_splits(str(path)).splits
    (dataset,) = loaded.values()
    labels = label_array(dataset).tolist() if "label" in dataset.column_names else None
    return [np.asarray(decode(record)) for record in dataset["image"]], labels


@pytest.mark.parametrize("source", [SYNTHETIC, *(folder for folder in [DEBIAN] if folder.is_dir())])
def test_rebuilding_gives_the_same_images_pixel_for_pixel(source, idx_folder, tmp_path, monkeypatch):
    """The real files must give the shipped ones; the synthetic ones the same again."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    if source == SYNTHETIC:
        expected = {
            split: pictures(file) for split, file in build(idx_folder, tmp_path / "first", sizes=SMALL).items()
        }
        rebuilt = build(idx_folder, tmp_path / "second", sizes=SMALL)
    else:
        expected = {split: pictures(file) for split, file in fashion_files().items()}
        rebuilt = build(source, tmp_path / "rebuilt")
    for split, (images, labels) in expected.items():
        new_images, new_labels = pictures(rebuilt[split])
        assert new_labels == labels
        assert len(new_images) == len(images)
        assert all(np.array_equal(new, old) for new, old in zip(new_images, images, strict=True))


def test_files_are_the_same_byte_for_byte_on_one_machine(idx_folder, tmp_path):
    first, second = (build(idx_folder, tmp_path / name, sizes=SMALL) for name in "ab")
    assert all(first[split].read_bytes() == second[split].read_bytes() for split in first)


def test_counts_and_no_image_in_two_splits(idx_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    written = {split: pictures(file) for split, file in build(idx_folder, tmp_path, sizes=SMALL).items()}
    for split, each in {"train": 2, "validation": 3, "test": 4}.items():
        assert np.bincount(written[split][1]).tolist() == [each] * 10
    assert len(written["unlabelled"][0]) == SMALL.unlabelled and written["unlabelled"][1] is None
    hashes = [hashlib.sha256(image.tobytes()).hexdigest() for images, _ in written.values() for image in images]
    assert len(set(hashes)) == len(hashes)


def test_images_and_labels_stay_together(idx_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    written = build(idx_folder, tmp_path, sizes=SMALL)
    original = read_idx(idx_folder / "t10k-images-idx3-ubyte.gz")
    labels = read_idx(idx_folder / "t10k-labels-idx1-ubyte.gz")
    for image, label in zip(*pictures(written["test"]), strict=True):
        (row,) = np.flatnonzero((original == image).all(axis=(1, 2)))
        assert labels[row] == label


def test_twins_are_found_within_and_across_splits(idx_folder):
    images = np.concatenate([read_idx(idx_folder / f"{name}-images-idx3-ubyte.gz") for name in ("train", "t10k")])
    assert np.flatnonzero(~occurs_once(images)).tolist() == [1, 11, 23, 82, 83, 92]


def test_another_seed_draws_other_images(idx_folder, tmp_path):
    first, second = (build(idx_folder, tmp_path / str(seed), sizes=SMALL, seed=seed) for seed in (1, 2))
    assert first["train"].read_bytes() != second["train"].read_bytes()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (FashionSizes(train=9), "class 'T-shirt/top' has 8 distinct training images, 59 are needed"),
        (FashionSizes(2, 2, 6, 1), "class 'Pullover' has 5 distinct test images, 6 are needed"),
        (FashionSizes(2, 2, 1, 1000), "37 distinct training images remain, 1000 unlabelled ones are needed"),
    ],
)
def test_too_few_images_are_named(sizes, message, idx_folder, tmp_path):
    with pytest.raises(InputError, match=message):
        build(idx_folder, tmp_path / "out", sizes=sizes)
    assert not (tmp_path / "out").exists()


BROKEN = {
    "no gzip": b"no gzip",
    "other type": gzip.compress(b"\x00\x00\x0d\x01"),
    "cut in the header": gzip.compress(b"\x00\x00\x08\x01"),
    "cut in the data": gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x05abc"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_idx_files_are_refused(case, tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(BROKEN[case])
    with pytest.raises(InputError, match="x.gz"):
        read_idx(path)


def test_command_line_ends_with_one_line_and_code_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--source", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
