"""A finished training as it goes to the Hub: the model with its card, recipe, curves and images to try.

Everything that pushes goes through :func:`run_files` and :func:`~hf_vipriors.hub.upload.upload`.
"""

from __future__ import annotations

import io
import logging
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import HfApi
from transformers import TimmWrapperConfig

from ..data import FASHION_VIPRIORS, decode
from ..data.columns import label_array
from ..errors import InputError, one_line
from ..evaluation.classification import score
from ..evaluation.features import probabilities
from ..evaluation.predictions import read_predictions
from ..evaluation.statistics import mcnemar, paired_difference_interval
from ..files import read_mapping
from ..hub.card_facts import ScoreRow, read_facts
from ..hub.native_export import load_native, native_config
from ..hub.onnx_export import (
    ONNX_FOLDER,
    OnnxClassifier,
    check_libraries,
    export_onnx,
    onnx_accuracy,
    quantize_onnx,
)
from ..hub.repository_files import RepositoryFiles, check_repo_id, model_files
from ..hub.upload import check_free, check_login, upload
from ..invocation import command
from ..methods import METHODS
from ..models import VipriorsConfig
from ..reports.figure_files import to_png
from ..reports.model_figures import learning_curves
from .arguments import RunArguments
from .cards import dataset_title, score_row
from .images_of_run import ImagesOfRun, data_of
from .recipe_of_run import recipe_text
from .run_files import METRICS_FILE, RUN_FILE, RunRecord, log_history, read_run
from .stores import evaluation_store
from .trained_images import same_scored_images, seen_in_training

logger = logging.getLogger(__name__)
EXAMPLES = 3


def check_push(args: RunArguments, config: VipriorsConfig, job: str) -> None:
    """Refuse before a training what would fail in it or after: no login, or a repository that holds another model.

    Raises:
        InputError: see above.
    """
    if args.hub_model_id is not None and not args.push_to_hub:
        raise InputError("--hub_model_id does nothing without --push_to_hub: add it, or leave the name out")
    if args.trackio_space_id is not None and args.should_save:
        check_login(failure=f"cannot log to --trackio_space_id {args.trackio_space_id}")
    if not (args.push_to_hub and args.should_save):
        return
    check_repo_id(args.hub_model_id, "hub_model_id")
    api = HfApi(token=args.hub_token)
    check_login(api)
    student = job == "student"
    # What identity_of() will find in the finished model's config.json.
    identity = {
        "model_type": TimmWrapperConfig.model_type if student else config.model_type,
        "architecture": config.backbone,
        "arguments": dict(config.backbone_args or {}),
        "num_classes": config.num_labels if student else None,
    }
    expected = RepositoryFiles(args.hub_model_id, {}, identity, "student" if student else "teacher")
    check_free(expected, revision=args.hub_revision, api=api)


def push_result(args: RunArguments) -> None:
    """Push what a finished training left in ``--output_dir``.

    Raises:
        InputError: it did not work; the line says how to push it later.
    """
    if not (args.push_to_hub and args.should_save):
        return
    try:
        address = push_run(args, args.hub_model_id)
    except InputError as error:
        later = shlex.join(["--model", args.output_dir, "--repo_id", args.hub_model_id])
        raise InputError(
            f"{one_line(error, None)}. The model is safe; push it by: {command('push')} {later}"
        ) from error
    logger.info("pushed to the Hub: %s", address)


def push_run(
    args: RunArguments, repo_id: str, *, token: str | None = None, private: bool | None = None,
    revision: str | None = None, message: str | None = None,
) -> str:  # fmt: skip
    """Push a run as its arguments say, or as the others do; the address of the commit."""
    return upload(
        run_files(Path(args.output_dir), repo_id),
        private=bool(args.hub_private_repo if private is None else private),
        revision=revision or args.hub_revision,
        message=message,
        api=HfApi(token=token or args.hub_token),
    )


def run_files(
    directory: Path, repo_id: str, *, images: ImagesOfRun | None = None, examples: int | None = None,
    onnx: bool = False, notebook: bool = False, changes: dict[str, Any] | None = None,
) -> RepositoryFiles:  # fmt: skip
    """All files of the repository of a finished training; nothing is sent.

    Args:
        directory: the run's folder.
        repo_id: ``"org/name"``.
        images: those of the run, where something else needs them too; read only if they are needed.
        examples: so many test images for the widget to try; None: 3 of the embedded data set, none of others.
        onnx: write and check ONNX files too.
        notebook: add a notebook that tries a student.
        changes: fields of :class:`CardFacts` that the card gets beside what the training knew.

    Raises:
        InputError: on whatever cannot work.
    """
    if onnx:
        check_libraries()  # before the images are read
    run, images = run_of(directory), images or ImagesOfRun(directory)
    embedded = run is not None and run.data["dataset_name"] == FASHION_VIPRIORS
    count = examples if examples is not None else (EXAMPLES if embedded else 0)
    facts, metrics = read_facts(directory), read_metrics(directory)
    teacher = facts is not None and facts.kind == "teacher"
    if teacher or (run is not None and METHODS[run.arguments["method"]].job != "student"):
        count = 0  # a teacher's class has no widget
    return model_files(
        directory,
        repo_id,
        examples=example_images(images, count) if count else {},
        curves=curves_png(directory, metrics, len(facts.class_names) if facts is not None else 0),
        recipe=recipe_text(run, metrics.get("search", {}).get("settings", {})) if run is not None else None,
        onnx=directory / ONNX_FOLDER if onnx else None,
        with_notebook=notebook,
        changes=(changes or {}) | ({"onnx": onnx_figures(images)} if onnx else {}),
    )


def run_of(directory: Path) -> RunRecord | None:
    """What ``run.json`` says of a training; None where there is none, as of a trainer that was called by hand."""
    return read_run(directory) if (directory / RUN_FILE).is_file() else None


def read_metrics(directory: Path) -> dict[str, Any]:
    file = directory / METRICS_FILE
    return read_mapping(file) if file.is_file() else {}


def curves_png(directory: Path, metrics: dict[str, Any], classes: int) -> bytes | None:
    """The training curves as an image; None where nothing was logged."""
    levels = {directory.name: metrics["chance_level"]} if metrics.get("chance_level") is not None else {}
    figure = learning_curves({directory.name: log_history(directory)}, chance=levels, classes=classes)
    return None if figure is None else to_png(figure)


def example_images(images: ImagesOfRun, count: int) -> dict[str, bytes]:
    """``count`` images that were not trained on, of as many classes as there are: class name -> PNG; perhaps none.

    Raises:
        InputError: the data set of the run is not there, or has other classes today.
    """
    splits, order = images.splits, images.class_order
    if "test" not in splits.splits:
        logger.warning("no test images were set apart, so the widget gets no examples")
        return {}
    source = splits.splits["test"]
    labels = label_array(source)
    chosen: dict[str, bytes] = {}
    spread = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    for label in spread:
        places = np.flatnonzero(labels == label)
        if len(places):
            buffer = io.BytesIO()
            decode(source[int(places[0])]["image"], images.data.full_scale).save(buffer, "PNG")
            chosen[splits.class_names[label]] = buffer.getvalue()
    return chosen


def onnx_figures(images: ImagesOfRun) -> dict[str, dict[str, float | None]]:
    """Write and check the ONNX files of a student, and measure both on its test images.

    Where no images were set apart, those that it has learnt from tell the time alone.

    Raises:
        InputError: the ``onnx`` extra is missing, no student, or no ``run.json`` that tells where its images lie.
    """
    directory, splits, order = images.directory, images.splits, images.class_order
    export_onnx(directory)
    quantize_onnx(directory)
    split = "test" if "test" in splits.splits else "train"
    own = splits.splits[split]
    if split == "test" and (seen := seen_in_training(directory, own, split)) is not None:  # images may have come since
        logger.warning("ONNX: %s", seen.words(str(directory)))
    store = evaluation_store(own, load_native(directory).config, images.data, f"{split}, for ONNX")

    def top1(classifier: OnnxClassifier) -> float | None:
        predictions = probabilities(classifier, store, batch_size=128, device="cpu")
        if split != "test":
            return None
        return score(predictions.values[:, order], predictions.labels, splits.class_names).top1

    found = onnx_accuracy(directory, top1)
    for name, each in found.items():
        right = "" if each.top1 is None else f"{100 * each.top1:.1f} % top-1, "
        shown = f"{right}{each.size / 1e6:.2f} MB, {each.milliseconds:.2f} ms an image"
        logger.info("ONNX %s: %s", name, shown)
    return {name: asdict(each) for name, each in found.items()}


def baseline_rows(directory: Path, baseline: Path) -> tuple[ScoreRow, str]:
    """The row of a supervised baseline for a student's card, and the sentence that compares the two.

    Raises:
        InputError: no finished run, or one that was scored on other images.
    """
    rows = {}
    for place, flag in ((directory, "model"), (baseline, "baseline")):
        predictions = read_predictions(place)
        if predictions is None or not read_metrics(place):
            raise InputError(
                f"{place} (--{flag}) has no predictions to compare: give the folder of a finished student"
            )
        rows[flag] = predictions
    ours, theirs = rows["model"], rows["baseline"]
    same = native_config(directory).class_names == native_config(baseline).class_names
    same = same and same_scored_images(directory, baseline)
    if not (same and torch.equal(ours.labels, theirs.labels)):
        raise InputError(
            f"{baseline} (--baseline) was scored on other images or classes than {directory}: compare like with like"
        )
    right = [(each.values.argmax(dim=1) == each.labels).tolist() for each in (ours, theirs)]
    low, high = paired_difference_interval(*right)
    gain = np.mean(right[0]) - np.mean(right[1])
    word = "above" if gain >= 0 else "below"
    shown = "" if low > 0 or high < 0 else "; it includes zero: no difference shown"
    run = run_of(baseline)
    note = f"{dataset_title(data_of(run))}, method {run.arguments['method']}" if run else ""
    return (
        score_row("supervised baseline", read_metrics(baseline)["test"], "baseline", note),
        f"{100 * abs(gain):.1f} points {word} the supervised baseline on the same images (95 % interval "
        f"{100 * low:+.1f} to {100 * high:+.1f}, McNemar p = {mcnemar(*right):.2g}){shown}. One run each: "
        "another seed gives other values.",
    )
