"""The embedded data set: where its files lie and what its classes are called."""

from __future__ import annotations

from pathlib import Path

FASHION_VIPRIORS = "fashion-vipriors"
"""The ``--dataset_name`` of the embedded data set."""

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""Class names in the order of Fashion-MNIST's label numbers."""

FASHION_SPLITS = ("train", "validation", "test", "unlabelled")


def fashion_files() -> dict[str, str]:
    """Find the parquet files of Fashion-VIPriors inside the installed package.

    500 train, 500 validation and 2,000 test images of 28 x 28 grey levels in 10 balanced classes, and 5,000 more
    without labels; no image stands in two of them. ``fashion_vipriors/README.md`` tells how they were drawn.

    Returns:
        Split name -> path. Columns: ``image`` (:class:`datasets.Image`, PNG bytes) and, except in ``unlabelled``,
        ``label`` (:class:`datasets.ClassLabel`). The column sets differ, so load one split at a time.

    Example:
        >>> from datasets import load_dataset
        >>> load_dataset("parquet", data_files={"test": fashion_files()["test"]}, split="test").num_rows
        2000
    """
    folder = Path(__file__).parent / "fashion_vipriors"
    return {split: str(folder / f"{split}.parquet") for split in FASHION_SPLITS}
