"""What is measured once, on test, when a training has ended."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from transformers import PreTrainedModel

from ..data import ImageSplits
from ..data.cifair import listed_duplicates
from ..errors import InputError
from ..evaluation.features import Outputs, features, probabilities
from ..evaluation.frozen import knn_score, linear_score
from ..evaluation.robustness import robustness
from ..evaluation.without_duplicates import WITHOUT, scores, without
from ..methods import METHODS
from ..models import VipriorsForImageClassification, VipriorsModel
from .data_arguments import DataArguments
from .stores import Store, evaluation_store
from .trainer import MethodTrainer

logger = logging.getLogger(__name__)


def score_on_test(trainer: MethodTrainer) -> tuple[dict[str, dict[str, Any]], Outputs | None]:
    """Entries of ``metrics.json`` by the prefix of the model that they are of, and a student's probabilities on test.

    Without a test and a validation split they have no figures of the model, and there are no probabilities.
    The single-process passes give the same on every process; every process must call it.
    """
    if METHODS[trainer.args.method].job == "student":
        found, outputs = _student_results(trainer)
        return {"": found}, outputs
    setup = trainer.setup
    shared = {
        "images": len(trainer.train_dataset),
        "chance_level": setup.method.chance_level(setup.args.step_images),
    }
    results = {}
    for prefix, model in trainer.evaluated().items():
        results[prefix] = dict(shared)
        if {"bank", "validation"} <= setup.stores.keys():
            results[prefix]["test_is_validation"] = setup.splits.test_is_validation
            results[prefix] |= feature_scores(
                model, setup.splits, setup.data, neighbours=setup.args.knn_neighbours,
                batch_size=setup.args.per_device_eval_batch_size, device=setup.args.device, stores=setup.stores,
            )  # fmt: skip
    return results, None


def _student_results(trainer: MethodTrainer) -> tuple[dict[str, Any], Outputs | None]:
    setup, args = trainer.setup, trainer.args
    if "test" not in setup.stores:
        return dict(trainer.at_end), None
    student, store = trainer.evaluated()[""], setup.stores["test"]
    batch = args.per_device_eval_batch_size
    outputs = probabilities(student, store, batch_size=batch, device=args.device)
    whole, *rest = scores(outputs, setup.class_names, listed_duplicates(setup.splits.splits["test"], "test"))
    metrics: dict[str, Any] = {"test": whole.to_dict(), "test_is_validation": setup.splits.test_is_validation}
    metrics |= trainer.at_end
    for found in rest:
        metrics[WITHOUT] = found.to_dict()
        logger.info(
            "CIFAR-10 test %s, %s images: top-1 %.1f %%",
            *(without(whole.count, found.count), f"{found.count:,}", 100 * found.top1),
        )
    if args.corruptions:
        bar = args.should_save and not args.disable_tqdm
        metrics["corrupted"] = robustness(student, store, batch_size=batch, device=args.device, progress=bar)
        logger.info("corrupted test images: top-1 %.1f %%", 100 * metrics["corrupted"]["top1"])
    return metrics, outputs


def feature_scores(
    model: PreTrainedModel,
    splits: ImageSplits,
    data: DataArguments,
    *,
    neighbours: int,
    batch_size: int,
    device: Any,
    stores: dict[str, Store] | None = None,
) -> dict[str, Any]:
    """kNN and linear probe of frozen features on the test split, fitted on the labelled training images.

    Args:
        stores: ``"bank"`` and ``"validation"``, where they are decoded already.
    """
    decoded = {} if stores is None else {"train": stores["bank"], "validation": stores["validation"]}
    found = split_features(
        model, splits, data, ("train", "validation", "test"), batch_size=batch_size, device=device, stores=decoded
    )
    linear = linear_score(*found.values(), splits.class_names)
    knn = knn_score(found["train"], found["test"], splits.class_names, neighbours=neighbours)
    return {"knn": knn.to_dict(), "linear": linear.score.to_dict(), "linear_cost": linear.cost}


def split_features(
    model: VipriorsModel | VipriorsForImageClassification,
    splits: ImageSplits,
    data: DataArguments,
    names: Collection[str],
    *,
    batch_size: int,
    device: Any,
    stores: Mapping[str, Store] | None = None,
) -> dict[str, Outputs]:
    """Pooled features of whole splits, each image as the model wants it; ``stores``: of splits decoded already.

    Raises:
        InputError: a split that is not there, for ``validation_share`` is 0.
    """
    if missing := [name for name in names if name not in splits.splits]:
        raise InputError(
            f"no {missing[0]} images, and --validation_share 0 sets none apart, on which a classifier of frozen "
            "features is chosen and scored: leave that out, or it"
        )
    known = stores or {}
    return {
        name: features(
            model,
            known[name] if name in known else evaluation_store(splits.splits[name], model.config, data, name),
            batch_size=batch_size,
            device=device,
        )
        for name in dict.fromkeys(names)
    }


def summary(metrics: dict[str, Any]) -> str:
    """The figures of a finished training in a few words.

    Example:
        >>> summary({"knn": {"top1": 0.5}, "linear": {"top1": 0.625}, "test_is_validation": False})
        'test kNN 50.0 %, linear 62.5 %'
    """
    # Teachers of earlier versions do not say which.
    split = "validation" if metrics.get("test_is_validation") else "test"
    if "test" in metrics:
        low, high = metrics["test"]["interval"]
        return (
            f"{split} top-1 {100 * metrics['test']['top1']:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f})"
        )
    if "knn" not in metrics:
        return "nothing was scored: no labelled images were set apart"
    return f"{split} kNN {100 * metrics['knn']['top1']:.1f} %, linear {100 * metrics['linear']['top1']:.1f} %"
