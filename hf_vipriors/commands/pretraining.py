"""Training without labels, from data to a saved model with its card: what teachers and label-free students share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from ..data import ImageSplits
from ..errors import InputError
from ..evaluation.features import features
from ..evaluation.frozen import knn_score, linear_score
from ..hub.native_export import export_native
from ..hub.whole_folder import whole_folder
from ..methods import Method, MoCo, SimCLR, settled_queue_length
from ..models import VipriorsConfig, VipriorsModel
from ..training import DataArguments, PretrainArguments, TeacherArguments, TeacherTrainer
from ..views import VIEW_INTERPOLATION, ContrastiveViews
from . import cards, publishing, wiring
from .fingerprint import fingerprint, record
from .leaks import look_for_leaks

logger = logging.getLogger(__name__)


@dataclass
class PretrainingResult:
    """A model trained without labels: the model, the trainer's log, and what was measured of the frozen features."""

    model: VipriorsModel
    history: list[dict[str, Any]]
    metrics: dict[str, Any]
    directory: Path


def network_config(args: TeacherArguments, class_names: list[str], **fields: Any) -> VipriorsConfig:
    """Backbone and projector as ``args`` have them; ``fields`` win."""
    settings = {
        "image_size": args.image_size,
        "backbone_args": args.backbone_args,
        "class_names": class_names or None,
        "crop_pct": args.crop_pct,
        "interpolation": VIEW_INTERPOLATION,
        "projector_dim": args.projector_dim,
        "projector_hidden_dim": args.projector_hidden_dim,
        "projector_batch_norm": args.projector_batch_norm,
    }
    settings |= fields
    return VipriorsConfig.for_backbone(settings.pop("backbone", args.backbone), **settings)


def contrastive_method(kind: str, model: VipriorsModel, args: TeacherArguments, images: int) -> SimCLR | MoCo:
    """``moco`` or ``simclr`` around ``model``, for a training set of ``images``."""
    if kind == "simclr":
        return SimCLR(model, temperature=args.temperature, margin=args.margin)
    otherwise = "use --contrast simclr" if isinstance(args, PretrainArguments) else "use --method simclr"
    length = settled_queue(args, images, otherwise=otherwise)
    return MoCo(
        model,
        queue_length=length,
        temperature=args.temperature,
        margin=args.margin,
        momentum=args.encoder_momentum,
        momentum_end=args.encoder_momentum_end,
        batchnorm_splits=args.batchnorm_splits,
        instance_aware=args.instance_aware,
    )


def settled_queue(args: TeacherArguments, images: int, **options: Any) -> int:
    length = settled_queue_length(images, args.step_images, args.queue_length, **options)
    masked = "masked" if args.instance_aware else "NOT masked"
    logger.info("queue of %d keys for %d images; a query's own image is %s in it", length, images, masked)
    return length


def contrastive_views(args: TeacherArguments, config: VipriorsConfig, **options: Any) -> ContrastiveViews:
    return ContrastiveViews(
        config.image_size,
        config.image_mean,
        config.image_std,
        crop_scale=args.crop_scale,
        jitter=args.jitter,
        grayscale=args.grayscale,
        blur=args.blur,
        **options,
    )


@wiring.holding_output_dir
def pretrain(
    command: str,
    data: DataArguments,
    args: TeacherArguments,
    splits: ImageSplits | None,
    build: Callable[[list[str], Callable[[VipriorsConfig], int]], tuple[Method, ContrastiveViews]],
) -> PretrainingResult:
    """Run a training without labels from data to a saved model with its card.

    Args:
        command: its name, for ``run.json``.
        build: gets the class names and a function that makes the training store for a configuration and tells how
            many images it holds; gives the method and its views.

    Raises:
        InputError: before anything is written, on whatever cannot work.
    """
    resume = wiring.resume_point(args)
    wiring.check_output_dir(args, resume)
    splits = splits or wiring.load_data(data)
    wiring.settle_seed(args)
    stores: list[Dataset] = []

    def images_for(config: VipriorsConfig) -> int:
        pool = [splits.splits[name] for name in ("train", "unlabelled") if name in splits.splits]
        stores.append(wiring.training_store(pool, config, data))
        args.fit_batch(len(stores[0]))
        wiring.fit_workers(args, stores[0])
        if args.step_images < 2:
            raise InputError("a batch of one image has no negatives: raise --per_device_train_batch_size")
        logger.info(args.settle_learning_rate(args.default_base_learning_rate))
        return len(stores[0])

    method, views = build(splits.class_names, images_for)
    config = method.deployable().config
    bank, validation = evaluation_stores(splits, config, data, args)
    used = {"train": stores[0], "bank": bank, "validation": validation}
    sums = fingerprint(used, method, args) if args.should_save else {}
    wiring.load_method_state(method, resume)
    publishing.check_push(args, config, "teacher")
    wiring.claim_output_dir(args, data, command, resume)
    record(args, sums)
    trainer = TeacherTrainer(
        method,
        args,
        bank_store=bank,
        train_store=stores[0],
        views=views,
        evaluation_store=validation,
        class_names=splits.class_names,
    )
    if args.guards:
        look_for_leaks(trainer.guards, splits, ("train", "unlabelled"))
    trainer.train(resume_from_checkpoint=resume)
    shared = {
        "images": len(stores[0]),
        "chance_level": method.chance_level(args.step_images),
        "seconds": wiring.training_seconds(trainer, resume),
        "warnings": trainer.guards.found(),
        "fingerprint": sums,
    }
    results, models = {}, trainer.evaluated()
    for prefix, model in models.items():
        results[prefix] = dict(shared)
        if bank is not None:
            results[prefix] |= frozen_scores(model, splits, bank, validation, data, args)
    directory = Path(args.output_dir)
    metrics = results[""] | {prefix.rstrip("_"): found for prefix, found in results.items() if prefix}
    if args.should_save:
        trainer.state.save_to_json(str(directory / "trainer_state.json"))
        for prefix, model in reversed(models.items()):  # what finishes the folder comes last
            save(model, directory / prefix.rstrip("_"), data, args, splits, metrics if not prefix else results[prefix])
    publishing.push_result(args)
    trainer.accelerator.wait_for_everyone()
    return PretrainingResult(models[""], trainer.state.log_history, metrics, directory)


def save(
    model: VipriorsModel,
    directory: Path,
    data: DataArguments,
    args: TeacherArguments,
    splits: ImageSplits,
    metrics: dict[str, Any],
) -> None:
    """Model, of a label-free student its native backbone too, card and figures.

    The figures come last: a folder with ``metrics.json`` is a finished one.
    """
    with whole_folder(directory) as folder:
        model.save_pretrained(folder)
    facts = cards.teacher_facts(model, data, args, splits, metrics)
    top = directory == Path(args.output_dir)
    name = directory.resolve().name if top else f"{directory.resolve().parent.name}-{directory.name}"
    native = isinstance(args, PretrainArguments) and top
    if native:
        export_native(model, directory / "native")
        logger.info("its backbone for transformers and timm alone: %s", directory / "native")
    cards.write_card(replace(facts, model_name=name, native=native), directory)
    wiring.write_json(directory / "metrics.json", metrics)
    logger.info("%s saved to %s: %s", model.config.backbone, directory, summary(metrics))


def evaluation_stores(
    splits: ImageSplits, config: VipriorsConfig, data: DataArguments, args: TeacherArguments
) -> tuple[Dataset | None, Dataset | None]:
    """(bank, validation) for the online kNN; (None, None) and no evaluation where nothing is labelled."""
    if "train" not in splits.splits:
        args.eval_strategy = "no"
        return None, None
    return tuple(
        wiring.evaluation_store(splits.splits[name], config, data, f"{name}, for kNN")
        for name in ("train", "validation")
    )


def frozen_scores(
    model: VipriorsModel,
    splits: ImageSplits,
    bank: Dataset,
    validation: Dataset,
    data: DataArguments,
    args: TeacherArguments,
) -> dict[str, Any]:
    """kNN and linear probe of the frozen features on the test split, fitted on the labelled training images."""
    options = {"batch_size": args.per_device_eval_batch_size, "device": args.device}
    train, valid = features(model, bank, **options), features(model, validation, **options)
    test = features(model, wiring.evaluation_store(splits.splits["test"], model.config, data, "test"), **options)
    linear, cost = linear_score(train, valid, test, splits.class_names)
    knn = knn_score(train, test, splits.class_names, neighbours=args.knn_neighbours)
    return {"knn": knn.to_dict(), "linear": linear.to_dict(), "linear_cost": cost}


def summary(metrics: dict[str, Any]) -> str:
    if "knn" not in metrics:
        return "no labels, so nothing was scored"
    return f"test kNN {100 * metrics['knn']['top1']:.1f} %, linear {100 * metrics['linear']['top1']:.1f} %"
