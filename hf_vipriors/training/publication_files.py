"""What goes to the Hub beside a model: its recipe, its curves, images to try, the baseline it is compared with."""

from __future__ import annotations

import io
import logging
from dataclasses import MISSING, Field, asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..data import FASHION_VIPRIORS, decode
from ..data.columns import label_array
from ..errors import InputError
from ..evaluation.classification import score
from ..evaluation.features import probabilities
from ..evaluation.predictions import read_predictions
from ..evaluation.statistics import mcnemar, paired_difference_interval
from ..files import read_json
from ..hub.card_facts import ScoreRow, read_facts
from ..hub.native_export import load_native
from ..hub.onnx_export import ONNX_FOLDER, OnnxClassifier, export_onnx, onnx_accuracy, quantize_onnx
from ..hub.publication import Publication, model_publication
from ..invocation import TRAININGS, command
from ..reports.figure_files import to_png
from ..reports.model_figures import learning_curves
from .arguments import DataArguments
from .cards import dataset_title, score_row, teacher_name
from .load_images import load_images
from .pretrain_arguments import PretrainArguments
from .run_files import METRICS_FILE, RUN_FILE
from .stores import evaluation_store
from .student_arguments import StudentArguments
from .teacher_arguments import TeacherArguments

logger = logging.getLogger(__name__)
KINDS = {
    "train_student": StudentArguments,
    "train_teacher": TeacherArguments,
    "pretrain_student": PretrainArguments,
}
# Where a run happened and how it was shown: no part of what it computes.
NOT_IN_RECIPE = (
    "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "disable_tqdm", "report_to", "run_name",
    "save_strategy", "save_steps", "save_total_limit", "use_cpu", "local_rank", "log_level", "settings_of",
    "search_space", "trials",
)  # fmt: skip
NETWORKS = ("teacher", "student_init", "more_teachers")
EXAMPLES = 3


def gather(
    directory: Path, repo_id: str, *, examples: int | None = None, onnx: bool = False,
    changes: dict[str, Any] | None = None,
) -> Publication:  # fmt: skip
    """All files of the repository of a finished training; nothing is sent.

    Args:
        directory: the run's folder.
        repo_id: ``"org/name"``.
        examples: so many test images for the widget to try; None: 3 of the embedded data set, none of others.
        onnx: write and check ONNX files too.
        changes: fields of :class:`CardFacts` that the card gets beside what the training knew.

    Raises:
        InputError: on whatever cannot work.
    """
    run = run_of(directory)
    count = examples if examples is not None else (EXAMPLES if is_embedded(run) else 0)
    if count and run is None:
        raise InputError(f"--examples: {directory} has no {RUN_FILE}, which tells where its images lie: leave it out")
    facts = read_facts(directory)
    if facts is not None and facts.kind == "teacher":
        count = 0  # its class has no widget
    return model_publication(
        directory,
        repo_id,
        examples=example_images(data_of(run), count) if count else {},
        curves=curves_png(directory, len(facts.class_names) if facts is not None else 0),
        recipe=recipe_text(run) if run is not None else None,
        onnx=directory / ONNX_FOLDER if onnx else None,
        changes=(changes or {}) | ({"onnx": onnx_figures(directory, run)} if onnx else {}),
    )


def recipe_text(run: dict[str, Any]) -> str | None:
    """The recipe that repeats a run, from its ``run.json``; None for a command that takes none.

    It holds what differs from the defaults. Paths of this machine are named in a comment and left out.
    """
    if run.get("command") not in KINDS:
        return None
    kind = KINDS[run["command"]]
    settings = _changed(DataArguments, run["data"]) | _changed(kind, run["arguments"])
    settings = {name: value for name, value in settings.items() if name not in NOT_IN_RECIPE and "hub" not in name}
    comments = [f"{command(TRAININGS[run['command']])} --config recipe.yaml --output_dir outputs/again"]
    for name in ("dataset_name", "data_dir"):
        if settings.get(name) and _is_local(settings[name]):
            comments.append(f"--{name}: your own copy of {Path(settings.pop(name)).name}")
    for name in NETWORKS:
        given = settings.get(name)
        if any(_is_local(each) for each in (given if isinstance(given, list) else [given]) if each):
            names = settings.pop(name)
            teachers = ", ".join(teacher_name(each) for each in (names if isinstance(names, list) else [names]))
            comments.append(f"--{name}: {teachers}, a folder of a training before this one")
    if "search" in run:
        comments.append("these settings were chosen on validation by a search")
    head = "".join(f"# {line}\n" for line in comments)
    return head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _changed(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for each in fields(kind):
        value, default = values.get(each.name), _default(each)
        # An empty value of an option that is empty anyway: transformers writes [] for "".
        if each.init and value not in (default, None, "<HUB_TOKEN>") and (value or default):
            found[each.name] = value
    return found


def _default(each: Field) -> Any:
    if each.default is not MISSING:
        return each.default
    return each.default_factory() if each.default_factory is not MISSING else None


def _is_local(name: str) -> bool:
    return Path(name).is_absolute() or Path(name).exists()


def curves_png(directory: Path, classes: int) -> bytes | None:
    """The training curves as an image; None where nothing was logged."""
    state, metrics = directory / "trainer_state.json", directory / METRICS_FILE
    if not state.is_file():
        return None
    chance = read_json(metrics).get("chance_level") if metrics.is_file() else None
    levels = {} if chance is None else {directory.name: chance}
    figure = learning_curves({directory.name: read_json(state)["log_history"]}, chance=levels, classes=classes)
    return None if figure is None else to_png(figure)


def example_images(data: DataArguments, count: int) -> dict[str, bytes]:
    """``count`` images that were not trained on, of as many classes as there are: class name -> PNG.

    Raises:
        InputError: the data set is not there.
    """
    splits = load_images(data)
    source = splits.splits["test"]
    labels = label_array(source)
    chosen: dict[str, bytes] = {}
    spread = np.linspace(0, len(splits.class_names) - 1, min(count, len(splits.class_names))).round().astype(int)
    for label in spread:
        places = np.flatnonzero(labels == label)
        if len(places):
            buffer = io.BytesIO()
            decode(source[int(places[0])]["image"], data.full_scale).save(buffer, "PNG")
            chosen[splits.class_names[label]] = buffer.getvalue()
    return chosen


def onnx_figures(directory: Path, run: dict[str, Any] | None) -> dict[str, dict[str, float]]:
    """Write and check the ONNX files of a student, and measure both on its test images.

    Raises:
        InputError: the ``onnx`` extra is missing, no student, or no ``run.json`` that tells where its images lie.
    """
    if run is None:
        raise InputError(f"--onnx: {directory} has no run.json, which tells on which images to measure int8")
    export_onnx(directory)
    quantize_onnx(directory)
    data = data_of(run)
    splits = load_images(data)
    store = evaluation_store(splits.splits["test"], load_native(directory).config, data, "test, for ONNX")

    def top1(classifier: OnnxClassifier) -> float:
        predictions = probabilities(classifier, store, batch_size=128, device="cpu")
        return score(predictions.values, predictions.labels, splits.class_names).top1

    found = onnx_accuracy(directory, top1)
    for name, each in found.items():
        shown = f"{100 * each.top1:.1f} % top-1, {each.size / 1e6:.2f} MB, {each.milliseconds:.2f} ms an image"
        logger.info("ONNX %s: %s", name, shown)
    return {name: asdict(each) for name, each in found.items()}


def run_of(directory: Path) -> dict[str, Any] | None:
    """What ``run.json`` says of a training; None where there is none."""
    file = directory / RUN_FILE
    return read_json(file) if file.is_file() else None


def data_of(run: dict[str, Any]) -> DataArguments:
    known = {each.name for each in fields(DataArguments)}
    return DataArguments(**{name: value for name, value in run["data"].items() if name in known})


def is_embedded(run: dict[str, Any] | None) -> bool:
    return run is not None and run["data"]["dataset_name"] == FASHION_VIPRIORS


def baseline_rows(directory: Path, baseline: Path) -> tuple[ScoreRow, str]:
    """The row of a supervised baseline for a student's card, and the sentence that compares the two.

    Raises:
        InputError: no finished run, or one that was scored on other images.
    """
    rows = {}
    for place, flag in ((directory, "model"), (baseline, "baseline")):
        predictions, metrics = read_predictions(place), place / METRICS_FILE
        if predictions is None or not metrics.is_file():
            raise InputError(
                f"{place} (--{flag}) has no predictions to compare: give the folder of a finished student"
            )
        rows[flag] = predictions
    ours, theirs = rows["model"], rows["baseline"]
    if len(ours.labels) != len(theirs.labels) or not bool((ours.labels == theirs.labels).all()):
        raise InputError(
            f"{baseline} (--baseline) was scored on other images than {directory}: compare like with like"
        )
    right = [(each.values.argmax(dim=1) == each.labels).tolist() for each in (ours, theirs)]
    low, high = paired_difference_interval(*right)
    gain = np.mean(right[0]) - np.mean(right[1])
    word = "above" if gain >= 0 else "below"
    shown = "" if low > 0 or high < 0 else "; it includes zero: no difference shown"
    run = run_of(baseline)
    note = f"{dataset_title(data_of(run))}, method {run['arguments']['method']}" if run else ""
    return (
        score_row("supervised baseline", read_json(baseline / METRICS_FILE)["test"], "baseline", note),
        f"{100 * abs(gain):.1f} points {word} the supervised baseline on the same images (95 % interval "
        f"{100 * low:+.1f} to {100 * high:+.1f}, McNemar p = {mcnemar(*right):.2g}){shown}. One run each: "
        "another seed gives other values.",
    )
