"""Score checkpoints on a split: top-1, top-5, per class, ten-crop, ensemble; kNN and linear probe of the features.

    python scripts/evaluate.py --model outputs/student
    python scripts/evaluate.py --model outputs/student outputs/baseline --ten_crop --output scores.json
    python scripts/evaluate.py --model outputs/student --report outputs/student_report
    python scripts/evaluate.py --model outputs/student --data_dir new_photos --split all
    python scripts/evaluate.py --model outputs/student --corruptions --ood_data_dir photos_by_another_camera
    python scripts/evaluate.py --model outputs/student --compare timm:vit_small_patch14_dinov2.lvd142m

Several --model folders are scored one by one and as an ensemble (mean of their probabilities). A teacher has no
classifier: of it, kNN and the linear probe are measured. On the data of its training a model is scored with the choice
of images of its run (--subset_seed, --images_per_class, ...) and its --labels, unless others are given.

Before any training: do I have enough images? (``--advise --help`` lists its options)

    python scripts/evaluate.py --advise --data_dir photos
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from rich.table import Table

from ..cli import process
from ..cli.parser import Parser
from ..comparison import HELP, load_networks
from ..data import ImageSplits
from ..data.cifair import listed_duplicates
from ..data.columns import match_classes
from ..errors import InputError, check_choice
from ..evaluation.classification import ClassificationScore, ensemble
from ..evaluation.features import Outputs, probabilities
from ..evaluation.frozen import knn_score, linear_score
from ..evaluation.without_duplicates import scores, without
from ..files import check_new, write_json
from ..hub.teachers import load_ours
from ..invocation import command
from ..machine import best_device, to_device
from ..models import VipriorsForImageClassification
from ..options import check_options, option
from ..reports.report import rich_table
from ..terminal import Console
from ..training import DataArguments
from ..training.data_arguments import CHOICE
from ..training.results import split_features
from ..training.stores import evaluation_store, ten_crop_store
from ..training.trained_images import Seen, seen_in_training
from . import report as evaluation_report
from . import shifted
from .alternatives import alternatives
from .evaluated import Evaluated, Model
from .run_protocol import log_protocol, protocol_of
from .scored_images import ALL, LABELLED, scored_images

logger = logging.getLogger(__name__)


@dataclass
class EvaluationArguments:
    """What to score, and how."""

    model: list[str] = field(default_factory=list, metadata={"help": "Folders of students or teachers."})
    split: str = option(
        "test",
        "Images to score: test, validation, or all: every labelled image of the data set, as of a folder that the "
        "models have never seen.",
    )
    ten_crop: bool = option(False, "Average ten crops of each image (corners, centre, flipped).")
    knn: bool = option(True, "Weighted kNN of the frozen features; labelled training images vote.")
    linear: bool = option(True, "Linear probe of the frozen features, its strength chosen on validation.")
    knn_neighbours: int = option(20, "Neighbours that vote.", low=1)
    batch_size: int = option(128, "Images at once.", low=1)
    output: str | None = option(None, "Write all figures to this JSON file.")
    report: str | None = option(None, "Draw a page of images, report.html, into this new folder.")
    corruptions: bool = option(False, "Score corrupted images too: 11 corruptions at 5 severities.")
    ood_dataset_name: str | None = option(
        None, "A second data set with the same classes (as --dataset_name): its test split, or all its images."
    )
    ood_data_dir: str | None = option(None, "Folder of the second data set (as --data_dir).")
    compare: list[str] = option([], HELP)
    device: str | None = option(None, "cpu, cuda, ...; None: the accelerator if there is one.")

    def __post_init__(self) -> None:
        if not self.model:
            raise InputError("--model DIR [DIR ...] is missing: which checkpoints are to be scored?")
        check_choice(self.split, ("test", "validation", ALL), "split")
        check_options(self)
        if self.output is not None:
            check_new(self.output, "output")
        if self.report is not None:
            evaluation_report.check_folder(self.report)
        if self.split == ALL and self.compare:
            raise InputError(
                "--compare cannot go with --split all: it fits a classifier to training images, which all are scored; "
                "leave one of them out"
            )
        self.device = self.device or best_device()

    @property
    def scored(self) -> str:
        """The name of the images among those that are loaded."""
        return LABELLED if self.split == ALL else self.split


def measure(data: DataArguments, args: EvaluationArguments) -> Evaluated:
    """All figures, and what images of them need: the models, the images and the predictions."""
    models = {name: to_device(load_ours(name, "model"), args.device) for name in args.model}
    classifiers = {name: model for name, model in models.items() if isinstance(model, VipriorsForImageClassification)}
    if not classifiers and (args.corruptions or args.ood_dataset_name or args.ood_data_dir or args.compare):
        raise InputError(
            "a teacher has no classifier: leave --corruptions, --ood_dataset_name, --ood_data_dir and --compare out"
        )
    if args.split == ALL and (teachers := models.keys() - classifiers.keys()):
        raise InputError(
            f"{', '.join(sorted(teachers))} (--model) has no classifier, and --split all leaves no image to fit one to"
        )
    networks = load_networks(args.compare)
    splits = scored_images(data, args.split, classifiers)
    if args.split == ALL and (args.knn or args.linear):
        logger.info("--split all: no kNN and no linear probe, for no image is left to fit them to")
    orders = {name: class_order(model, splits.class_names, name) for name, model in classifiers.items()}
    second = None
    if args.ood_dataset_name is not None or args.ood_data_dir is not None:
        second = shifted.second_set(args.ood_dataset_name, args.ood_data_dir, splits.class_names)
    results: dict[str, dict[str, Any]] = {name: {} for name in models}
    predictions: dict[str, Outputs] = {}
    listed = listed_duplicates(splits.splits[args.scored], args.scored) if classifiers else None
    for name, model in models.items():
        if name in classifiers:
            predictions[name] = classify(classifiers[name], splits, data, args)
            results[name] = _by_kind(scores(predictions[name], splits.class_names, listed), args)
            if second is not None:
                results[name][f"{measured(args)} on {second.title}"] = shifted.second_score(
                    classifiers[name], second, orders[name], splits.class_names, data, **how(args)
                )
        results[name] |= frozen_scores(model, splits, data, args)
    if len(predictions) > 1:
        name = f"ensemble of {len(predictions)}"
        first, *_ = predictions.values()
        predictions[name] = Outputs(ensemble([each.values for each in predictions.values()]), first.labels)
        results[name] = _by_kind(scores(predictions[name], splits.class_names, listed), args)
    if not any(results.values()):
        raise InputError("nothing to measure: a teacher has no classifier; leave --no_knn or --no_linear out")
    everything = Evaluated(models, splits, args.scored, results, predictions, orders)
    everything.seen = models_that_saw(list(models), splits.splits[args.scored], everything.split_title)
    if second is not None:
        models_that_saw(list(classifiers), second.images, second.title)
    if networks:
        options = {"batch_size": args.batch_size, "device": args.device}
        everything.compared = alternatives(networks, everything, data, **options)
    return everything


def models_that_saw(models: list[str], images: Dataset, title: str) -> dict[str, Seen]:
    """The models whose folders tell that they were trained on some of the images; each is warned of."""
    found = {name: seen for name in models if (seen := seen_in_training(name, images, title)) is not None}
    for name, seen in found.items():
        logger.warning("%s: %s", title, seen.words(name))
    return found


def class_order(model: VipriorsForImageClassification, class_names: list[str], name: str) -> list[int]:
    """Which output of the model answers for each class of the data set.

    Raises:
        InputError: when the two do not know the same classes.
    """
    problem = f"{name} (--model) knows other classes than the data set"
    mend = "give the data set it was trained for (--dataset_name, --data_dir)"
    return match_classes(model.config.class_names, class_names, problem, mend)


def classify(
    model: VipriorsForImageClassification, splits: ImageSplits, data: DataArguments, args: EvaluationArguments
) -> Outputs:
    """Probabilities in the order of the data set's classes, and labels."""
    dataset, config = splits.splits[args.scored], model.config
    make = ten_crop_store if args.ten_crop else evaluation_store
    store = make(dataset, config, data, args.scored)
    found = probabilities(model, store, ten_crop=args.ten_crop, batch_size=args.batch_size, device=args.device)
    return Outputs(found.values[:, class_order(model, splits.class_names, model.config.backbone)], found.labels)


def _by_kind(found: list[ClassificationScore], args: EvaluationArguments) -> dict[str, ClassificationScore]:
    """The score on all images, and that on CIFAR-10's without the listed ones."""
    kinds = [measured(args), *(f"{measured(args)} {without(found[0].count, each.count)}" for each in found[1:])]
    return dict(zip(kinds, found, strict=True))


def corrupted(found: Evaluated, data: DataArguments, args: EvaluationArguments) -> dict[str, dict[str, Any]]:
    """What is left of every classifier on corrupted images, by model; nothing where it was not asked for."""
    if not args.corruptions:
        return {}
    return {
        name: shifted.corrupted_scores(found.models[name], found.splits, found.split, order, data, **how(args))
        for name, order in found.orders.items()
    }


def how(args: EvaluationArguments) -> dict[str, Any]:
    """How passes over images are made."""
    return {"ten_crop": args.ten_crop, "batch_size": args.batch_size, "device": args.device}


def measured(args: EvaluationArguments) -> str:
    return "ten-crop top-1" if args.ten_crop else "top-1"


def frozen_scores(
    model: Model, splits: ImageSplits, data: DataArguments, args: EvaluationArguments
) -> dict[str, ClassificationScore]:
    """kNN and linear probe of the pooled features; none where no image is left to fit them to."""
    if args.split == ALL or not (args.knn or args.linear):
        return {}
    names = [name for name in ("train", "validation", args.split) if name in splits.splits]
    passes = split_features(model, splits, data, names, batch_size=args.batch_size, device=args.device)
    train, target = passes["train"], passes[args.split]
    results = {}
    if args.knn:
        results["kNN"] = knn_score(train, target, splits.class_names, neighbours=args.knn_neighbours)
    if args.linear and "validation" not in passes:
        logger.info("no linear probe: its strength is chosen on validation, and --validation_share 0 sets none apart")
    elif args.linear:
        results["linear"] = linear_score(train, passes["validation"], target, splits.class_names).score
    return results


def show(results: dict[str, dict[str, ClassificationScore]], split: str) -> None:
    """Two tables on stdout: the scores, and the classes one by one."""
    console = Console()
    table = Table(title=f"Scores on {split}")
    for column in ("model", "measured", "top-1 %", "95 % interval", "top-5 %", "balanced %", "ECE %", "images"):
        table.add_column(column, justify="left" if column in ("model", "measured") else "right")
    classes = Table(title="Top-1 by class, %")
    classes.add_column("class")
    columns = []
    for model, kinds in results.items():
        for kind, s in kinds.items():
            top5 = "-" if s.top5 is None else f"{100 * s.top5:.1f}"
            interval = f"{100 * s.interval[0]:.1f} - {100 * s.interval[1]:.1f}"
            ece = "-" if s.calibration_error is None else f"{100 * s.calibration_error:.1f}"
            balanced = f"{100 * s.balanced_accuracy:.1f}"
            table.add_row(model, kind, f"{100 * s.top1:.1f}", interval, top5, balanced, ece, str(s.count))
            classes.add_column(f"{Path(model).name}\n{kind}", justify="right")
            columns.append(s.per_class)
    for name in columns[0]:
        classes.add_row(name, *("-" if c[name] is None else f"{100 * c[name]:.1f}" for c in columns))
    console.print(table)
    console.print(classes)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``scripts/evaluate.py`` and of ``-m hf_vipriors.scoring.evaluate``."""

    def job() -> None:
        parser = Parser([DataArguments, EvaluationArguments], __doc__)
        given, args = parser.parse(argv)
        of_run = protocol_of(args.model, given, () if args.split == ALL else CHOICE)
        data, args = parser.parse(argv, of_run)
        log_protocol(of_run, given, data, args.model)
        found = measure(data, args)
        results, robust = found.results, corrupted(found, data, args)
        if args.output is not None:
            figures = {m: {kind: s.to_dict() for kind, s in kinds.items()} for m, kinds in results.items()}
            Path(args.output).parent.mkdir(parents=True, exist_ok=True)
            content = {"split": found.split_title, "scores": figures} | ({"corrupted": robust} if robust else {})
            content |= {"trained_on": {name: asdict(seen) for name, seen in found.seen.items()}} if found.seen else {}
            content |= {"compared": found.compared.to_dict()} if found.compared else {}
            write_json(Path(args.output), content)
        show(results, found.split_title)
        if found.compared is not None:
            Console().print(rich_table(found.compared.report))
        for name, figures in robust.items():
            Console().print(shifted.corruption_table(figures, found.label(name), found.kind))
        if args.report is not None:
            words = shlex.join(sys.argv[1:] if argv is None else argv)
            more = {found.label(name): figures for name, figures in robust.items()}
            page = evaluation_report.write_report(
                found,
                data,
                args.report,
                f"{command('evaluate')} {words}",
                batch_size=args.batch_size,
                device=args.device,
                more=[shifted.corruption_section(more, found.kind)] if more else None,
            )
            logger.info("page of images: %s", page)

    process.run(job)


if __name__ == "__main__":
    main()
