"""The tuned baseline: trials before the run that counts, chosen on validation, and settings that another run found."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..data import ImageSplits
from ..errors import InputError
from ..files import read_json, write_json
from ..hub.teachers import Teacher
from ..logs import quiet
from ..options import with_defaults
from ..run import RunResult, Tuned, train
from ..training import DataArguments, RunArguments, StudentArguments
from ..training.checkpoints import complete_checkpoint
from ..training.load_images import load_images
from ..training.resolve import complete
from ..training.run_files import METRICS_FILE, SEARCH_FILE, versions, write_run
from ..training.run_folder import YES, check_output_dir, claim_output_dir, holding_output_dir, resume_point
from ..training.run_identity import influences
from ..training.setup import Setup, load_named_teacher, set_up
from ..training.teacher_checks import check_teacher_given
from .checks import SUMMARY, check_effect, check_space, check_start, checked, read_search
from .same_compute import same_compute
from .space import SearchSpace, check_searchable
from .trials import JOURNAL, SearchTrainer, SearchTrial, best_trial, trial_arguments

logger = logging.getLogger(__name__)
SEARCH = "search"
SETTINGS = "settings.json"
# They decide which trials there are, or what is measured when they have ended.
_NOT_OF_A_TRIAL = {"trials", "search_space", "settings_of", "corruptions"}


@holding_output_dir
def train_student(data: DataArguments, given: StudentArguments, splits: ImageSplits | None = None) -> RunResult:
    """Train a student, with ``trials`` after a search for its settings, with ``settings_of`` by those of another run.

    Args:
        data, given, splits: as in :func:`hf_vipriors.run.train`.

    Raises:
        InputError: on whatever cannot work, before anything is written.
    """
    if not (given.trials or given.settings_of):
        return train(data, given, splits)
    check_teacher_given(given)
    given, resume = search_resume_point(data, given)
    check_output_dir(given, resume)
    teacher = load_named_teacher(given, data)
    splits = splits or load_images(data)
    stores, searched = None, False
    if given.settings_of:
        if Path(given.settings_of).resolve() == Path(given.output_dir).resolve():
            raise InputError(
                f"--settings_of {given.settings_of} is --output_dir too: choose another folder for this run"
            )
        found, source = read_search(given.settings_of, "--settings_of"), f"--settings_of {given.settings_of}"
    elif resume is not None:
        folder = str(Path(resume).parent)
        found, source = read_search(folder, "--resume_from_checkpoint"), f"search in {folder}"
        if found["trials"] != given.trials:
            raise InputError(f"{source} had {found['trials']} trials: resume with --trials {found['trials']}")
    else:
        found, first = run_search(data, given, splits, teacher)
        source, searched = f"search in {given.output_dir}", True
    check_searchable(list(found["settings"]), source)
    args = checked(given, found["settings"], source)
    check_effect(list(found["settings"]), args, source)
    logger.info("%s: %s", source, words(found["settings"]))
    check_start(args, found["settings"], splits, teacher, source)
    length = same_compute(given, args, splits.class_names, teacher)
    args = replace(args, **length)
    if searched and same_images(args, first.given):
        stores = first.stores
    tuned = Tuned(args, {name: found[name] for name in SUMMARY}, stores, claimed=searched, length=length)
    return train(data, given, splits, tuned=tuned)


def run_search(
    data: DataArguments, args: StudentArguments, splits: ImageSplits, teacher: Teacher | None
) -> tuple[dict[str, Any], Setup]:
    """What search.json holds, after the trials that were missing; and the setup of a trial with nothing drawn."""
    space = SearchSpace.read(args.search_space)
    check_space(space, args, splits, teacher)
    # One with nothing drawn is set up at once, so that what cannot work is refused before anything is written.
    first = set_up(trial_arguments(args, {}), data, splits, teacher=teacher)
    claim_output_dir(args, None)
    write_run("train_student", data, args, None, {})
    folder = Path(args.output_dir) / SEARCH
    if other_search(space, data, args):
        logger.info("the search in %s had other settings: it is replaced", folder)
        for name in (SETTINGS, JOURNAL, f"{JOURNAL}.lock"):
            (folder / name).unlink(missing_ok=True)
    folder.mkdir(exist_ok=True)
    write_json(folder / SETTINGS, search_identity(space, data, args))
    logger.info("search: %d trials, chosen on validation, over %s", args.trials, ", ".join(space.names))
    trainer = search_trainer(space, args, first, teacher)
    done = trainer.search(args.trials, folder, lambda trials: logger.info(trial_line(trials, args.trials)))
    best = best_trial(done)
    found = {
        "trials": len(done),
        "validation_top1": best.validation_top1,
        "settings": best.settings,
        "best_trial": best.number,
        "seconds": sum(trial.seconds for trial in done),
        "space": space.describe(),
        "all_trials": [trial.to_dict() for trial in done],
    }
    write_json(Path(args.output_dir) / SEARCH_FILE, found)
    return found, first


def search_trainer(space: SearchSpace, args: StudentArguments, first: Setup, teacher: Teacher | None) -> SearchTrainer:
    """The trainer of all trials, each set up as a run that counts is."""
    data, splits, stores, given = first.data, first.splits, first.stores, first.given

    def set_up_trial(trial: StudentArguments) -> Setup:
        with quiet(logging.WARNING):  # every trial would say the same
            reused = stores if same_images(trial, given) else None
            trial = replace(trial, **same_compute(args, trial, splits.class_names, teacher))
            return set_up(trial, data, splits, teacher=teacher, stores=reused)

    return SearchTrainer(space, args, first, set_up_trial)


def same_images(one: RunArguments, other: RunArguments) -> bool:
    """Whether two runs can use the same decoded images."""
    first, second = (vars(complete(each).args) for each in (one, other))
    return all(first[name] == second[name] for name in ("image_size", "unlabelled_ratio", "propagate_labels"))


def words(settings: dict[str, Any]) -> str:
    """Settings on one line.

    Example:
        >>> words({"learning_rate": 0.0512345, "crop_scale": [0.5, 1.0], "auto_augment": None})
        'learning_rate 0.05123, crop_scale [0.5, 1.0], auto_augment none'
    """
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in settings.items()}
    return ", ".join(f"{name} {'none' if value is None else value}" for name, value in shown.items())


def trial_line(done: list[SearchTrial], budget: int) -> str:
    """The newest trial, the best so far, and the time left.

    Example:
        >>> trial_line([SearchTrial(0, {"mixup": 0.3}, 0.8125, 120.0)], 3)
        'trial 1 of 3: validation 81.2 % with mixup 0.3; best 81.2 % (trial 1), about 4 minutes left'
    """
    newest, best = done[-1], best_trial(done)
    seconds = sum(trial.seconds for trial in done) / len(done) * (budget - len(done))
    left = f"about {seconds / 60:.0f} minutes left" if seconds >= 90 else f"about {seconds:.0f} seconds left"
    if len(done) == budget:
        left = "the last one"
    return (
        f"trial {len(done)} of {budget}: validation {100 * newest.validation_top1:.1f} % "
        f"with {words(newest.settings)}; "
        f"best {100 * best.validation_top1:.1f} % (trial {best.number + 1}), {left}"
    )


def search_identity(space: SearchSpace, data: DataArguments, args: StudentArguments) -> dict[str, Any]:
    """All that decides what the trials measure: a search goes on only where this is the same."""
    arguments = {k: value for k, value in args.to_dict().items() if influences(k) and k not in _NOT_OF_A_TRIAL}
    folders = [args.teacher, args.student_init, *args.more_teachers]
    folders += [] if data.choose_with is None else [data.choose_with]
    weights = [Path(folder or "") / "model.safetensors" for folder in folders]
    identity = {
        "data": {k: value for k, value in asdict(data).items() if influences(k)},
        "arguments": arguments,
        "space": space.describe(),
        "weights": [hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None for file in weights],
        "versions": versions(),
    }
    return json.loads(json.dumps(identity, default=str))


def other_search(space: SearchSpace, data: DataArguments, args: StudentArguments) -> bool:
    """Whether trials lie in the run's folder that are not of this search."""
    folder = Path(args.output_dir) / SEARCH
    if not (folder / JOURNAL).is_file():
        return False
    if not (folder / SETTINGS).is_file():
        return True
    begun, usual = read_json(folder / SETTINGS), search_identity(space, with_defaults(data), with_defaults(args))
    if not isinstance(begun, dict) or not all(isinstance(begun.get(part), dict) for part in ("data", "arguments")):
        return True
    for part in ("data", "arguments"):  # an option that there was not yet had its default
        begun[part] = usual[part] | begun[part]
    return begun != search_identity(space, data, args)


def search_resume_point(data: DataArguments, args: StudentArguments) -> tuple[StudentArguments, str | None]:
    """``resume_point``; a run that was killed in its search has no checkpoint, and goes on with the search.

    Returns:
        The arguments with which it goes on, and the checkpoint.

    Raises:
        InputError: nothing to resume, or a search of other settings.
    """
    folder = Path(args.output_dir)
    wanted = str(args.resume_from_checkpoint).lower() in YES
    begun = (folder / SEARCH / JOURNAL).is_file() and not (folder / METRICS_FILE).is_file()
    if not (args.trials and wanted and begun) or any(map(complete_checkpoint, folder.glob("checkpoint-*"))):
        return args, resume_point(args)
    if other_search(SearchSpace.read(args.search_space), data, args):
        raise InputError(
            f"the search in {folder} had other settings: give those, or --overwrite_output_dir to search anew"
        )
    return replace(args, resume_from_checkpoint=None, overwrite_output_dir=True), None
