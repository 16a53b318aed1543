"""The part of a trainer that measures: the model that would be deployed, on images as evaluation wants them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import datasets
from torch.distributed import broadcast
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PreTrainedModel, Trainer
from transformers.trainer_utils import IntervalStrategy, PredictionOutput, denumpify_detensorize

from ..data import TrainingSample, labels_for
from ..errors import InputError
from ..evaluation.features import Outputs
from ..hub.preprocessing import evaluation_geometry
from .given_images import Images, check_images, columns_of, with_labels
from .setup import Setup
from .sharding import whole
from .stores import Store, evaluation_store


class EvaluatingTrainer(Trainer):
    """``evaluate`` and ``predict`` with the contract of ``transformers.Trainer``, on data sets and image stores."""

    setup: Setup
    needs_labels = True

    def evaluate(
        self,
        eval_dataset: Images | dict[str, Images] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Figures of the model that would be deployed, on ``eval_dataset`` or the one given at the start.

        Raises:
            InputError: nothing to evaluate on, no label, or classes that the model does not know.
        """
        if isinstance(eval_dataset, dict):
            found = {}
            for name, one in eval_dataset.items():
                found |= self.evaluate(one, ignore_keys, f"{metric_key_prefix}_{name}")
            return found
        start = time.perf_counter()
        store = self.store_of(self.eval_dataset if eval_dataset is None else eval_dataset, metric_key_prefix)
        if self.needs_labels and not (store.labels >= 0).any():
            raise InputError(f"{metric_key_prefix}: no image has a label, so nothing can be measured; use predict()")
        metrics = self.measure(store)[1]
        metrics = _prefixed(metrics, metric_key_prefix)
        metrics[f"{metric_key_prefix}_runtime"] = time.perf_counter() - start
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        # The pause is no training time: images per second would sag after each evaluation.
        self._window = (self._window[0] + time.perf_counter() - start, self._window[1])
        return metrics

    def predict(
        self, test_dataset: Images, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """What the model says of each image, seen as evaluation sees it: logits of a student, features of a teacher.

        Returns:
            ``predictions`` ``(N, K)`` or ``(N, D)``, ``label_ids`` ``(N,)`` (None without labels) and ``metrics``.

        Raises:
            InputError: an image that cannot be read, whatever ``on_bad_image``: rows would no longer fit.
        """
        start = time.perf_counter()
        store = self.store_of(test_dataset, metric_key_prefix)
        if (missing := len(test_dataset) - len(store)) > 0:
            raise InputError(
                f"{metric_key_prefix}: {missing} of {len(test_dataset)} images cannot be read, and what is predicted "
                "would no longer stand beside its row: take them out first"
            )
        outputs, metrics = self.measure(store)
        metrics = _prefixed(metrics, metric_key_prefix)
        metrics[f"{metric_key_prefix}_runtime"] = time.perf_counter() - start
        self.control = self.callback_handler.on_predict(self.args, self.state, self.control, metrics)
        labels = outputs.labels.numpy() if (outputs.labels >= 0).any() else None
        return PredictionOutput(outputs.values.numpy(), labels, metrics)

    def get_eval_dataloader(self, eval_dataset: Images | None = None) -> DataLoader:
        return super().get_eval_dataloader(self.store_of(self.eval_dataset if eval_dataset is None else eval_dataset))

    def get_test_dataloader(self, test_dataset: Images) -> DataLoader:
        return super().get_test_dataloader(self.store_of(test_dataset, "test"))

    def store_of(self, images: Images | None, name: str = "eval") -> Store:
        """Images as evaluation wants them; a store is taken as it is.

        Raises:
            InputError: nothing was given, or images of classes that the model does not know.
        """
        if images is None:
            raise InputError("nothing to evaluate on: give eval_dataset, here or when the trainer is made")
        images = check_images(images, f"the data set to {name}")
        if not isinstance(images, datasets.Dataset):
            return images
        return evaluation_store(self.images_of(images, name), self.setup.config, self.setup.data, name)

    def validate_on(self, images: Images | None) -> None:
        """Take others for validation than the trainer was made with; None: no validation.

        Raises:
            InputError: what the trainer could not have been made with.
        """
        setup, before = self.setup, self.setup.stores.get("validation")
        stores = {name: store for name, store in setup.stores.items() if name != "validation"}
        splits = {name: split for name, split in setup.splits.splits.items() if name != "validation"}
        if images is not None:
            images = check_images(images, "eval_dataset")
            if isinstance(images, datasets.Dataset) != bool(splits):
                raise InputError(
                    "eval_dataset: give images of the kind that train_dataset is, data set or image store"
                )
            if isinstance(images, datasets.Dataset):
                splits["validation"] = with_labels(self.images_of(images, "eval_dataset"))
                images = evaluation_store(splits["validation"], setup.config, setup.data, "eval_dataset")
            if self.needs_labels and not (images.labels >= 0).any():
                raise InputError("eval_dataset has no label, so nothing can be measured on it: give labelled images")
            stores["validation"] = images
        self.setup = replace(setup, stores=stores, splits=replace(setup.splits, splits=splits))
        chosen = "eval_strategy" in setup.resolved.set_since(self.args)
        if (images is None) != (before is None) and not (chosen and before is None):
            strategy = IntervalStrategy.NO if images is None else setup.given.eval_strategy
            setup.resolved.fill("eval_strategy", strategy, "by whether there are images to validate on")
            self.args.eval_strategy = strategy

    def images_of(self, images: datasets.Dataset, name: str) -> datasets.Dataset:
        """Further images, their labels counted in the classes that the model knows; -1 where there is none."""
        columns = columns_of(images, self.setup.splits, self.setup.data)
        return labels_for(images, self.class_names, name, **columns)

    def measure(self, store: Store) -> tuple[Outputs, dict[str, float]]:
        """What the deployable model gives for each image, and the figures by name.

        They are those of the labelled images; where none has a label there are none that need one.

        Every process must call it, and gets all.
        """
        self.share_buffers()
        outputs = self.predictions(store)
        labelled = outputs.labelled
        known = len(labelled.labels) > 0
        if not known and self.needs_labels:
            return outputs, {}
        figures = self.figures(labelled if known else outputs, store)
        if known and self.compute_metrics is not None:
            prediction = EvalPrediction(predictions=labelled.values.numpy(), label_ids=labelled.labels.numpy())
            figures |= _numbers(self.compute_metrics(prediction))
        return outputs, figures

    def share_buffers(self) -> None:
        """Each process has batch-norm statistics of its own; what is measured, and saved, are the main process's."""
        if self.args.world_size > 1:
            for model in self.model.evaluated().values():
                for buffer in model.buffers():
                    broadcast(buffer, src=0)

    def training_sample(self, count: int, *, labelled: bool = True) -> TrainingSample:
        """At most ``count`` training images, with a label or without, as evaluation sees them."""
        geometry = evaluation_geometry(self.setup.config)
        return TrainingSample(self.train_dataset, geometry, count, labelled=labelled)

    def training_samples(self, pool: int) -> tuple[TrainingSample, TrainingSample]:
        """All labelled training images, and at most ``pool`` of those without labels."""
        return self.training_sample(len(self.train_dataset)), self.training_sample(pool, labelled=False)

    def predictions(self, store: Store) -> Outputs:
        """Logits ``(N, K)`` of a student, features ``(N, D)`` of a teacher."""
        raise TypeError(f"{type(self).__name__} must define predictions()")

    def figures(self, outputs: Outputs, store: Store) -> dict[str, float]:
        """The figures of one evaluation, by name.

        Args:
            outputs: predictions for the images of ``store`` that have a label, or for all where none has.
            store: where others than the deployable model are measured too.
        """
        raise TypeError(f"{type(self).__name__} must define figures()")

    def evaluated(self) -> dict[str, PreTrainedModel]:
        """The method's ``evaluated()``, whole and plain as they are deployed. Every process must call it.

        Raises:
            InputError: there is none, as after a search before ``train()``.
        """
        if self.model is None:
            raise InputError("the search has left no model: set what it found in trainer.args, and train()")
        models = self.model.evaluated()
        return {prefix: whole(model) if self.is_fsdp_enabled else model.plain() for prefix, model in models.items()}

    def _pass_options(self) -> dict[str, Any]:
        return {
            "batch_size": self.args.per_device_eval_batch_size,
            "device": self.args.device,
            "accelerator": self.accelerator if self.args.world_size > 1 else None,
            "workers": self.args.dataloader_num_workers,
        }


def _prefixed(metrics: dict[str, float], prefix: str) -> dict[str, float]:
    """As ``Trainer`` names metrics: what has the prefix already keeps its name."""
    return {name if name.startswith(f"{prefix}_") else f"{prefix}_{name}": value for name, value in metrics.items()}


def _numbers(metrics: Any) -> dict[str, Any]:
    """What ``compute_metrics`` found, as plain numbers that a checkpoint can hold.

    Raises:
        InputError: it is no dict, or one is no number.
    """
    if not isinstance(metrics, Mapping):
        raise InputError(f"compute_metrics gave a {type(metrics).__name__}: it must return a dict, figures by name")
    found = denumpify_detensorize(dict(metrics))
    for name, value in found.items():
        if not isinstance(value, int | float):
            raise InputError(f"compute_metrics: {name!r} is a {type(value).__name__}, and must be one number")
    return found
