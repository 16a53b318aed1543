"""Some of many images, and some training images as evaluation sees them."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms import functional as F

from .image_decoding import ResizeCrop
from .image_store import Batch, ImageStore, StreamedStore
from .paired_store import PairedStore


def sample(images: datasets.Dataset, count: int) -> datasets.Dataset:
    """At most ``count`` images, evenly spaced: of every class and folder some."""
    return images.select(np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)))


class TrainingSample(Dataset):
    """Images of a training store, evenly chosen, as evaluation resizes and crops them.

    With another filter than evaluation's they had another sharpness than the network learnt, which cost label
    propagation up to a point of accuracy.

    Args:
        store: squares as they are kept for training.
        geometry: of evaluation.
        count: how many images at most. Default 256.
        labelled: of the labelled images (default), or of those without.

    Example:
        >>> store = ImageStore(torch.zeros(9, 1, 28, 28, dtype=torch.uint8), torch.tensor([0, 1, -1] * 3))
        >>> sample = TrainingSample(store, ResizeCrop(54, 48, "bilinear"), count=3)
        >>> sample.__getitems__([0, 2])["pixel_values"].shape, sample.rows.tolist()
        (torch.Size([2, 1, 48, 48]), [0, 3, 7])
    """

    def __init__(
        self,
        store: ImageStore | StreamedStore | PairedStore,
        geometry: ResizeCrop,
        count: int = 256,
        *,
        labelled: bool = True,
    ) -> None:
        self.store = store.store if isinstance(store, PairedStore) else store
        self.geometry = geometry
        rows = ((self.store.labels >= 0) == labelled).nonzero().squeeze(1)
        self.rows = rows[torch.linspace(0, len(rows) - 1, min(count, len(rows)), dtype=torch.float64).long()]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        batch = self.store.__getitems__(self.rows[torch.as_tensor(indices)].tolist())
        images = [F.pil_to_tensor(self.geometry(F.to_pil_image(image))) for image in batch["pixel_values"]]
        return {**batch, "pixel_values": torch.stack(images)}
