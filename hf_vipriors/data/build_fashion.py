"""Rebuild Fashion-VIPriors, pixel for pixel, from the idx files of Fashion-MNIST.

    apt-get install dataset-fashion-mnist
    python -m hf_vipriors.data.build_fashion --source /usr/share/datasets/fashion-mnist --output rebuilt

Images that occur more than once, within or across the original splits, are left out first; the test images come from
the original test split and all others from the original training split.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, Image
from PIL import Image as PILImage

from ..errors import InputError
from .fashion import FASHION_CLASSES

logger = logging.getLogger(__name__)

SEED = 2020  # the year of the first VIPriors challenge


@dataclass(frozen=True)
class FashionSizes:
    """How many images to draw: per class for the labelled splits, in all for the unlabelled one."""

    train: int = 50
    validation: int = 50
    test: int = 200
    unlabelled: int = 5000


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped idx file of unsigned bytes, the format of MNIST and Fashion-MNIST.

    Args:
        path: for example ``train-images-idx3-ubyte.gz``.

    Returns:
        uint8 array with the dimensions that the file's header states.

    Raises:
        InputError: the file is missing, not gzip, or not an idx file of unsigned bytes.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise InputError(
            f"cannot read {str(path)!r} ({reason}): --source needs the four idx .gz files of dataset-fashion-mnist"
        ) from error
    # Two zero bytes, the type code (8 = unsigned byte), the number of dimensions, then each as a big-endian int32.
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise InputError(f"{str(path)!r} is not an idx file of unsigned bytes: take the original Fashion-MNIST files")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], dtype=">i4").tolist())
    if len(content) - start != math.prod(shape):
        raise InputError(f"{str(path)!r} is cut short: its header promises {shape}, fetch the file again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def occurs_once(images: np.ndarray) -> np.ndarray:
    """Mark the images (N, H, W) whose pixels no other image shares; boolean (N,)."""
    digests = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]
    counts = Counter(digests)
    return np.array([counts[digest] == 1 for digest in digests], dtype=bool)


def _draw_per_class(
    rng: np.random.Generator, pool: np.ndarray, labels: np.ndarray, count: int, where: str
) -> np.ndarray:
    """Choose ``count`` members of ``pool`` (row numbers) from every class; (classes, count)."""
    chosen = []
    for label, class_name in enumerate(FASHION_CLASSES):
        members = pool[labels[pool] == label]
        if len(members) < count:
            raise InputError(f"class {class_name!r} has {len(members)} distinct {where} images, {count} are needed")
        chosen.append(rng.permutation(members)[:count])
    return np.stack(chosen)


def draw(
    train_labels: np.ndarray, test_labels: np.ndarray, unique: np.ndarray, sizes: FashionSizes, seed: int
) -> dict[str, np.ndarray]:
    """Choose the rows of every split.

    Args:
        train_labels: (N,) labels of the original training split.
        test_labels: (M,) labels of the original test split.
        unique: (N + M,) whether the image occurs only once among both.

    Returns:
        Split -> row numbers in random order; those of ``test`` count in the original test split, all others in the
        original training split.

    Raises:
        InputError: too few distinct images.
    """
    rng = np.random.default_rng(seed)
    train_pool = np.flatnonzero(unique[: len(train_labels)])
    test_pool = np.flatnonzero(unique[len(train_labels) :])
    labelled = _draw_per_class(rng, train_pool, train_labels, sizes.train + sizes.validation, "training")
    test = _draw_per_class(rng, test_pool, test_labels, sizes.test, "test")
    rest = np.setdiff1d(train_pool, labelled)
    if len(rest) < sizes.unlabelled:
        raise InputError(f"{len(rest)} distinct training images remain, {sizes.unlabelled} unlabelled ones are needed")
    return {
        "train": rng.permutation(labelled[:, : sizes.train].ravel()),
        "validation": rng.permutation(labelled[:, sizes.train :].ravel()),
        "test": rng.permutation(test.ravel()),
        "unlabelled": rng.permutation(rest)[: sizes.unlabelled],
    }


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def write_split(path: Path, images: np.ndarray, labels: np.ndarray | None, rows: np.ndarray, origin: str) -> None:
    """Write ``images[rows]`` as one parquet file that ``datasets`` reads with its image and label features."""
    records = [{"bytes": _png(images[row]), "path": f"{origin}-{row:05d}.png"} for row in rows]
    features = Features({"image": Image()})
    columns = [pa.array(records, type=Image.pa_type)]
    if labels is not None:
        features["label"] = ClassLabel(names=list(FASHION_CLASSES))
        columns.append(pa.array(labels[rows].astype(np.int64)))
    table = pa.Table.from_arrays(columns, schema=features.arrow_schema)
    # PNG bytes do not compress further; one row group and fixed options keep the file the same from run to run.
    pq.write_table(table, path, compression="none", row_group_size=len(rows), use_dictionary=False)


def build(
    source: str | Path, output: str | Path, *, sizes: FashionSizes = FashionSizes(), seed: int = SEED
) -> dict[str, Path]:
    """Draw Fashion-VIPriors from the idx files in ``source`` and write one parquet file a split into ``output``.

    The same source, sizes and seed give the same pixels, labels and order. (The bytes of a PNG also depend on the
    version of zlib inside Pillow; its pixels do not.)

    Args:
        source: folder with the four ``*-ubyte.gz`` files of Fashion-MNIST.
        output: folder to write into; it is made when it does not exist.
        sizes: images a class, and unlabelled ones in all.
        seed: of the numpy generator behind every draw.

    Returns:
        Split -> file written.

    Raises:
        InputError: a file is missing or broken, or there are too few distinct images.

    Example::

        build("/usr/share/datasets/fashion-mnist", "rebuilt")["test"]  # Path("rebuilt/test.parquet")
    """
    source, output = Path(source), Path(output)
    images, labels = {}, {}
    for name in ("train", "t10k"):
        images[name] = read_idx(source / f"{name}-images-idx3-ubyte.gz")
        labels[name] = read_idx(source / f"{name}-labels-idx1-ubyte.gz")
        if len(images[name]) != len(labels[name]):
            raise InputError(f"{str(source)!r}: {len(images[name])} {name} images but {len(labels[name])} labels")
    unique = occurs_once(np.concatenate([images["train"], images["t10k"]]))
    logger.info("%d of %d images occur more than once and are left out", (~unique).sum(), len(unique))
    drawn = draw(labels["train"], labels["t10k"], unique, sizes, seed)
    output.mkdir(parents=True, exist_ok=True)
    written = {}
    for split, rows in drawn.items():
        origin = "t10k" if split == "test" else "train"
        written[split] = output / f"{split}.parquet"
        write_split(written[split], images[origin], None if split == "unlabelled" else labels[origin], rows, origin)
        logger.info("%s: %d images, %.2f MiB", split, len(rows), written[split].stat().st_size / 2**20)
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and build; a mistake there ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m hf_vipriors.data.build_fashion", description=__doc__)
    parser.add_argument("--source", required=True, help="folder with the idx .gz files of dataset-fashion-mnist")
    parser.add_argument("--output", required=True, help="folder for the parquet files")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        build(options.source, options.output)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
