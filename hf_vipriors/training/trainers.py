"""The trainers of teachers and students: what is measured while they train."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from ..data import TrainingSample
from ..evaluation.classification import score
from ..evaluation.features import features, probabilities
from ..evaluation.frozen import effective_rank, feature_spread, knn_score
from ..methods import Method
from .arguments import RunArguments
from .trainer import MethodTrainer


class TeacherTrainer(MethodTrainer):
    """Training without labels. Evaluation is an online weighted kNN: labelled images vote for each validation image.

    Args:
        bank_store: labelled training images, cropped as evaluation wants them.
        others: as in :class:`MethodTrainer`.
    """

    def __init__(self, method: Method, args: RunArguments, *, bank_store: Dataset | None, **options: Any):
        self.bank_store = bank_store
        super().__init__(method, args, **options)

    def measure(self, store: Dataset) -> dict[str, float]:
        figures = {}
        for prefix, model in self.evaluated().items():
            bank = features(model, self.bank_store, **self._pass_options())
            queries = features(model, store, **self._pass_options())
            knn = knn_score(bank, queries, self.class_names, neighbours=self.args.knn_neighbours)
            figures[f"{prefix}knn_top1"] = knn.top1
            # Features that are all alike have no spread: a collapse shows here before it shows anywhere else.
            figures[f"{prefix}feature_std"] = feature_spread(queries.values)
            figures[f"{prefix}effective_rank"] = effective_rank(queries.values)
        return figures


class StudentTrainer(MethodTrainer):
    """Training with labels. Evaluation is top-1 and cross-entropy of the deployable model on validation.

    Where validation has fallen, the guards look at some training images too (``train_top1``).
    """

    def look_at_data(self) -> None:
        self.guards.count_images(self.train_dataset.labels, None, self.class_names)
        super().look_at_data()
        if self.eval_dataset is not None and self.args.needs_answers:
            for teacher in self.model.teachers():
                self.guards.judge_teacher(self._top1(teacher.model, self.eval_dataset, resize=teacher.prepared.size))

    def _top1(self, model: nn.Module, store: Dataset, **options: Any) -> float:
        answers = probabilities(model, store, **options, **self._pass_options())
        return score(answers.values, answers.labels, self.class_names).top1

    def measure(self, store: Dataset) -> dict[str, float]:
        model = self.evaluated()[""]
        answers = probabilities(model, store, **self._pass_options())
        result = score(answers.values, answers.labels, self.class_names)
        loss = nn.functional.nll_loss(answers.values.clamp(min=1e-12).log(), answers.labels).item()
        figures = {"loss": loss, "top1": result.top1}
        if self.args.guards and self.guards.has_fallen(result.top1):
            with torch.random.fork_rng(devices=[]):
                sample = TrainingSample(self.train_dataset, model.config.image_size, model.config.crop_pct)
                figures["train_top1"] = self._top1(model, sample)
        return figures
