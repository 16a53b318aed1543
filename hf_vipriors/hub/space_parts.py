"""What the Spaces of both kinds are made of: the facts that the page tells, the images to try, the card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from huggingface_hub import ModelCardData, SpaceCard, SpaceCardData
from PIL import Image

from ..data import ImageSplits, decode
from ..data.columns import label_array
from ..errors import InputError
from ..models import VipriorsForImageClassification
from .model_card import render

EXAMPLES = 6
_EXAMPLE_SIDE = 512


@dataclass(frozen=True)
class SpaceFacts:
    """A student and its data, checked by :func:`hf_vipriors.hub.space.write_space`, whose arguments these are.

    Attributes:
        title: one line.
        licence: of the Space; None: unknown.
        card: metadata of the student's card.
        labels: of the training images (N,).
    """

    student_dir: Path
    repo_id: str
    title: str
    licence: str | None
    model: VipriorsForImageClassification
    card: ModelCardData
    data: ImageSplits
    labels: np.ndarray
    on_bad_image: str

    def text(self, template: str, **more: Any) -> str:
        """A text of the page, as Markdown."""
        counts = np.bincount(self.labels)
        accuracies = [
            result
            for result in self.card.eval_results or []
            if result.metric_type == "accuracy" and result.metric_name.startswith("Top-1")
        ]
        return render(
            template,
            repo_id=self.repo_id,
            title=self.title,
            names=self.model.config.class_names,
            trained_on=len(self.labels),
            least=counts[counts > 0].min(),
            most=counts.max(),
            measured=accuracies[0] if accuracies else None,
            **more,
        )

    def write_examples(self, folder: Path) -> list[str]:
        """Save some images that were not trained on, of different classes; their places inside the folder."""
        held_out = self.data.splits.get("test", self.data.splits.get("validation"))
        names: list[str] = []
        if held_out is None:
            return names
        (folder / "examples").mkdir()
        for image in self._readable(held_out):
            image.thumbnail((_EXAMPLE_SIDE, _EXAMPLE_SIDE))
            names.append(f"examples/{len(names) + 1}.png")
            image.save(folder / names[-1])
            if len(names) == EXAMPLES:
                break
        return names

    def _readable(self, dataset: Dataset) -> Iterator[Image.Image]:
        for row in spread(label_array(dataset)).tolist():
            try:
                yield decode(dataset[row]["image"], self.model.config.full_scale)
            except InputError:
                if self.on_bad_image == "error":
                    raise

    def write_card(self, folder: Path, body: str, **metadata: Any) -> None:
        """Save ``README.md``; the metadata say how the Hub runs the Space."""
        data = SpaceCardData(
            title=self.title,
            emoji="🔎",
            colorFrom="yellow",
            colorTo="red",
            license=self.licence,
            models=[self.repo_id],
            datasets=self.card.datasets,
            tags=["image-classification", "few-images", "vipriors"],
            **metadata,
        )
        SpaceCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n").save(folder / "README.md")


def spread(labels: np.ndarray) -> np.ndarray:
    """All positions, so ordered that any number of the first ones holds the classes as evenly as there are images.

    Example:
        >>> spread(np.array([7, 7, 7, 8, 9, 9])).tolist()
        [0, 3, 4, 1, 5, 2]
    """
    order = np.argsort(labels, kind="stable")
    classes, first = np.unique(labels[order], return_index=True)
    turn = np.empty(len(labels), dtype=np.int64)
    turn[order] = np.arange(len(labels)) - first[np.searchsorted(classes, labels[order])]
    return np.argsort(turn, kind="stable")
