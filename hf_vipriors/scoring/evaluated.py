"""What one evaluation of one or several models has measured: what its tables, its JSON and its page are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..comparison import Comparison
from ..data import ImageSplits
from ..evaluation.classification import ClassificationScore
from ..evaluation.features import Outputs
from ..models import VipriorsForImageClassification, VipriorsModel
from ..training.trained_images import Seen
from .scored_images import LABELLED

Model = VipriorsModel | VipriorsForImageClassification


@dataclass
class Evaluated:
    """What one evaluation measured, and what images of it need.

    Attributes:
        models: by the name that the user gave.
        splits: the data set; ``split`` is the one that was scored.
        results: model, or ensemble -> measurement -> score.
        predictions: classifier, or ensemble -> probabilities in the order of the data set's classes, and labels.
        orders: classifier -> which of its outputs answers for each class of the data set.
        compared: the first classifier beside the networks of ``--compare``, with what follows; None: there are none.
        seen: model -> how many of the scored images it was trained on; without those that were trained on none.
    """

    models: dict[str, Model]
    splits: ImageSplits
    split: str
    results: dict[str, dict[str, ClassificationScore]] = field(default_factory=dict)
    predictions: dict[str, Outputs] = field(default_factory=dict)
    orders: dict[str, list[int]] = field(default_factory=dict)
    compared: Comparison | None = None
    seen: dict[str, Seen] = field(default_factory=dict)

    @property
    def split_title(self) -> str:
        """What headings call the images."""
        return "all labelled images" if self.split == LABELLED else self.kind

    @property
    def kind(self) -> str:
        """Which images they are, in one word: test is validation again where there are no test images."""
        return self.splits.test_title if self.split == "test" else self.split

    @property
    def first(self) -> str:
        """The model whose images are shown: the first classifier, or the first model where there is none."""
        return next(iter(self.predictions), next(iter(self.models)))

    def label(self, name: str) -> str:
        """The last part of a folder's name, unless two models share it."""
        last = [Path(each).name for each in self.results]
        return Path(name).name if last.count(Path(name).name) == 1 else name
