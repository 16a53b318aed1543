"""The road of every training: from arguments and data to a model that is scored, saved, described and pushed."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from .data import ImageSplits
from .evaluation.predictions import write_predictions
from .files import write_json
from .hub.card_facts import CardFacts
from .invocation import seconds_since_start
from .methods import METHODS
from .training import DataArguments, RunArguments, StudentTrainer, TeacherTrainer
from .training.cards import parameters, result_facts, write_card
from .training.checkpoints import read_method_state
from .training.fingerprint import fingerprint, fingerprint_line
from .training.finished_run import check_push, push_result
from .training.load_images import load_images
from .training.results import score_on_test, summary
from .training.resumption import check_resumption
from .training.run_files import METRICS_FILE, STATE_FILE, write_run
from .training.run_folder import check_output_dir, claim_output_dir, holding_output_dir, resume_point
from .training.setup import Setup, load_named_teacher, set_up
from .training.stores import Store
from .training.teacher_checks import check_teacher_given
from .training.trained_images import write_trained_images
from .training.trainer import MethodTrainer

logger = logging.getLogger(__name__)
COMMANDS = {"teacher": "train_teacher", "pretrain": "pretrain_student", "student": "train_student"}


@dataclass
class RunResult:
    """A finished training.

    Attributes:
        model: what is deployed.
        history: the trainer's log.
        metrics: as in ``metrics.json``.
        directory: the run's folder.
        facts: from which its card was rendered.
        test_probabilities: ``(N, K)`` of a student on the test split; None for a teacher.
    """

    model: PreTrainedModel
    history: list[dict[str, Any]]
    metrics: dict[str, Any]
    directory: Path
    facts: CardFacts
    test_probabilities: Tensor | None = None


@dataclass(frozen=True)
class Tuned:
    """What a search hands to the run that counts.

    Attributes:
        args: the run's arguments with the settings that were found.
        found: what metrics.json says of them.
        stores: those of the trials, to be used again; None without trials.
        claimed: whether the folder is the search's already.
        length: options of ``args`` that follow from the network that was found, see
            :func:`hf_vipriors.search.same_compute.same_compute`.
    """

    args: RunArguments
    found: dict[str, Any]
    stores: dict[str, Store] | None = None
    claimed: bool = False
    length: dict[str, Any] = field(default_factory=dict)


@holding_output_dir
def train(
    data: DataArguments, given: RunArguments, splits: ImageSplits | None = None, *, tuned: Tuned | None = None
) -> RunResult:
    """Train one network by any method: from data to a saved model with its card and figures.

    Args:
        data: which images.
        given: :class:`TeacherArguments`, :class:`PretrainArguments` or :class:`StudentArguments`; not changed.
        splits: the images, where they are loaded already.
        tuned: settings that a search found for this run.

    Raises:
        InputError: before anything is written, on whatever cannot work.

    Example:
        >>> import tempfile
        >>> from hf_vipriors import DataArguments, TeacherArguments
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     args = TeacherArguments(f"{folder}/teacher", method="simclr", backbone="test_resnet", max_steps=1,
        ...                             image_size=32, projector_dim=8, use_cpu=True, disable_tqdm=True,
        ...                             report_to="none", save_strategy="no", eval_strategy="no")
        ...     sorted(train(DataArguments(images_per_class=2), args).metrics)[:3]
        ['chance_level', 'fingerprint', 'images']
    """
    began = time.monotonic() - seconds_since_start()
    check_teacher_given(given)
    resume = resume_point(given)
    claimed = tuned is not None and tuned.claimed
    if not claimed:
        check_output_dir(given, resume)
    teacher = load_named_teacher(given, data)
    splits = splits or load_images(data)
    setup = set_up(
        given if tuned is None else tuned.args, data, splits, teacher=teacher, stores=tuned and tuned.stores
    )
    for name, value in ({} if tuned is None else tuned.length).items():
        setup.resolved.fill(name, value, "as much compute as with the network that was given")
    check_push(given, setup.config, METHODS[given.method].job)
    trainer = build_trainer(setup)
    trainer.settle_length(began, resume)
    sums = fingerprint(setup) if given.should_save else {}
    if resume is not None:  # before anything is written, so that a checkpoint of another run is refused in time
        check_resumption(setup, resume)
        read_method_state(setup.method, resume)
    if not claimed:
        claim_output_dir(given, resume)
    if given.should_save:
        write_run(COMMANDS[METHODS[given.method].job], data, given, setup.resolved, sums)
        logger.info("fingerprint: %s", fingerprint_line(sums))
        write_trained_images(Path(given.output_dir), splits, setup.args)
    trainer.train(resume_from_checkpoint=resume)
    result = score_and_save(trainer, resume, sums, {} if tuned is None else {"search": tuned.found})
    push_result(given)
    return result


def build_trainer(
    setup: Setup, teachers: type[TeacherTrainer] = TeacherTrainer, students: type[StudentTrainer] = StudentTrainer
) -> MethodTrainer:
    """The trainer of a setup: the one place where one is built. ``teachers`` and ``students`` are its classes."""
    return (students if METHODS[setup.args.method].job == "student" else teachers)(setup=setup)


def score_and_save(
    trainer: MethodTrainer, resume: str | None, sums: dict[str, str], more: dict[str, Any]
) -> RunResult:
    """Score once on test, save the model, its card and, last, its figures: a folder with these is a finished one.

    Args:
        trainer: that has trained.
        resume: the checkpoint that it went on from.
        sums: the fingerprint.
        more: further entries of ``metrics.json``.
    """
    setup, directory = trainer.setup, Path(trainer.args.output_dir)
    # Not known of a run that was resumed.
    seconds = None if resume is not None else trainer.state.log_history[-1].get("train_runtime")
    results, probabilities = score_on_test(trainer)
    shared = {"seconds": seconds, "warnings": trainer.guards.found(), "fingerprint": sums} | more
    models = trainer.evaluated()
    results = {
        prefix: found | shared | {"parameters": parameters(models[prefix])} for prefix, found in results.items()
    }
    metrics = results[""] | {prefix.rstrip("_"): found for prefix, found in results.items() if prefix}
    facts = result_facts(setup, models[""], metrics)
    trainer.results = metrics
    trainer.save_model()
    if trainer.args.should_save:
        trainer.state.save_to_json(str(directory / STATE_FILE))
        for prefix, model in models.items():
            if prefix:
                peer = directory / prefix.rstrip("_")
                write_card(result_facts(setup, model, results[prefix], folder=peer), peer)
                write_json(peer / METRICS_FILE, results[prefix])
        write_card(facts, directory)
        if probabilities is not None:
            write_predictions(directory, probabilities.values, probabilities.labels)
        write_json(directory / METRICS_FILE, metrics)
        logger.info("%s saved to %s: %s", setup.config.backbone, directory, summary(metrics))
    trainer.accelerator.wait_for_everyone()
    values = None if probabilities is None else probabilities.values
    return RunResult(models[""], trainer.state.log_history, metrics, directory, facts, values)
