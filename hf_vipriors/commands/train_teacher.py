"""Phase 1: train a self-supervised teacher on images, labelled or not.

    accelerate launch scripts/train_teacher.py --output_dir outputs/teacher
    accelerate launch scripts/train_teacher.py --config scripts/recipes/image_folder_teacher.yaml --data_dir photos

Without options it trains on the photographs that ship with the package. The result is a folder that
`VipriorsModel.from_pretrained` loads and `scripts/train_student.py --teacher` starts from.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from ..data import ImageSplits
from ..errors import InputError
from ..evaluation.features import features
from ..evaluation.frozen import knn_score, linear_score
from ..methods import Method, MoCo, SimCLR, settled_queue_length
from ..models import VipriorsConfig, VipriorsModel
from ..training import DataArguments, TeacherArguments, TeacherTrainer
from ..views import VIEW_INTERPOLATION, ContrastiveViews
from . import cards, cli, wiring

logger = logging.getLogger(__name__)


@dataclass
class TeacherResult:
    """A trained teacher: the model, the trainer's log, and what was measured of the frozen features."""

    model: VipriorsModel
    history: list[dict[str, Any]]
    metrics: dict[str, Any]
    directory: Path


def build_method(model: VipriorsModel, args: TeacherArguments, images: int) -> Method:
    """The method named by ``args``, around ``model``, for a training set of ``images``."""
    if args.step_images < 2:
        raise InputError("a batch of one image has no negatives: raise --per_device_train_batch_size")
    if args.method == "simclr":
        return SimCLR(model, temperature=args.temperature, margin=args.margin)
    length = settled_queue_length(images, args.step_images, args.queue_length)
    masked = "masked" if args.instance_aware else "NOT masked"
    logger.info("queue of %d keys for %d images; a query's own image is %s in it", length, images, masked)
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


def teacher_config(args: TeacherArguments, class_names: list[str]) -> VipriorsConfig:
    return VipriorsConfig.for_backbone(
        args.backbone,
        image_size=args.image_size,
        backbone_args=args.backbone_args,
        class_names=class_names or None,
        crop_pct=args.crop_pct,
        interpolation=VIEW_INTERPOLATION,
        projector_dim=args.projector_dim,
        projector_hidden_dim=args.projector_hidden_dim,
        projector_batch_norm=args.projector_batch_norm,
    )


def train_teacher(data: DataArguments, args: TeacherArguments, splits: ImageSplits | None = None) -> TeacherResult:
    """Run phase 1 from data to a saved teacher with its card.

    Raises:
        InputError: before anything is written, on whatever cannot work.
    """
    resume = wiring.resume_point(args)
    wiring.check_output_dir(args, resume)
    splits = splits or wiring.load_data(data)
    wiring.settle_seed(args)
    model = VipriorsModel(teacher_config(args, splits.class_names))
    wiring.check_rgb(model)
    pool = [splits.splits[name] for name in ("train", "unlabelled") if name in splits.splits]
    store = wiring.training_store(pool, model.config, data)
    args.fit_batch(len(store))
    logger.info(args.settle_learning_rate(args.default_base_learning_rate))
    method = build_method(model, args, len(store))
    bank, validation = evaluation_stores(splits, model.config, data, args)
    views = ContrastiveViews(
        args.image_size,
        model.config.image_mean,
        model.config.image_std,
        crop_scale=args.crop_scale,
        jitter=args.jitter,
        grayscale=args.grayscale,
        blur=args.blur,
    )
    wiring.load_method_state(method, resume)
    wiring.claim_output_dir(args, data, "train_teacher", resume)
    trainer = TeacherTrainer(
        method,
        args,
        bank_store=bank,
        train_store=store,
        views=views,
        evaluation_store=validation,
        class_names=splits.class_names,
    )
    trainer.train(resume_from_checkpoint=resume)
    teacher = method.deployable()
    metrics: dict[str, Any] = {
        "images": len(store),
        "chance_level": method.chance_level(args.step_images),
        "seconds": wiring.training_seconds(trainer, resume),
    }
    if bank is not None:
        metrics |= frozen_scores(teacher, splits, bank, validation, data, args)
    directory = Path(args.output_dir)
    if args.should_save:
        teacher.save_pretrained(directory)
        trainer.state.save_to_json(str(directory / "trainer_state.json"))
        wiring.write_json(directory / "metrics.json", metrics)
        cards.write_card(cards.teacher_facts(teacher, data, args, splits, metrics), directory)
        logger.info("teacher saved to %s: %s", directory, summary(metrics))
    trainer.accelerator.wait_for_everyone()
    return TeacherResult(teacher, trainer.state.log_history, metrics, directory)


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
    teacher: VipriorsModel,
    splits: ImageSplits,
    bank: Dataset,
    validation: Dataset,
    data: DataArguments,
    args: TeacherArguments,
) -> dict[str, Any]:
    """kNN and linear probe of the frozen features on the test split, fitted on the labelled training images."""
    options = {"batch_size": args.per_device_eval_batch_size, "device": args.device}
    train, valid = features(teacher, bank, **options), features(teacher, validation, **options)
    test = features(teacher, wiring.evaluation_store(splits.splits["test"], teacher.config, data, "test"), **options)
    linear, cost = linear_score(train, valid, test, splits.class_names)
    knn = knn_score(train, test, splits.class_names, neighbours=args.knn_neighbours)
    return {"knn": knn.to_dict(), "linear": linear.to_dict(), "linear_cost": cost}


def summary(metrics: dict[str, Any]) -> str:
    if "knn" not in metrics:
        return "no labels, so nothing was scored"
    return f"test kNN {100 * metrics['knn']['top1']:.1f} %, linear {100 * metrics['linear']['top1']:.1f} %"


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``scripts/train_teacher.py`` and of ``-m hf_vipriors.commands.train_teacher``."""

    def job() -> None:
        data, args = cli.Parser([DataArguments, TeacherArguments], __doc__).parse(argv)
        train_teacher(data, args)

    cli.run(job)


if __name__ == "__main__":
    main()
