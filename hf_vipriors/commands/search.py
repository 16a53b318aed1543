"""The tuned baseline: trials before the run that counts, chosen on validation, and settings that another run found."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..cli import process
from ..data import ImageSplits
from ..errors import InputError
from ..training import DataArguments, StudentArguments
from ..training.checkpoints import complete_checkpoint
from ..training.no_influence import influences
from ..training.search import JOURNAL, SearchTrainer, SearchTrial, best_trial, trial_arguments
from ..training.search_space import SearchSpace, check_searchable
from . import wiring
from .search_checks import SUMMARY, check_effect, check_space, checked, read_search
from .student_methods import Teacher
from .student_setup import StudentImages, StudentSetup, fit_teacher_head, set_up_student

logger = logging.getLogger(__name__)
SEARCH = "search"
SETTINGS = "settings.json"
# They decide which trials there are, or what is measured when they have ended.
_NOT_OF_A_TRIAL = {"trials", "search_space", "settings_of", "corruptions"}


@dataclass(frozen=True)
class TunedRun:
    """The run that counts.

    Attributes:
        args: the run's arguments with the settings that were found.
        found: what metrics.json says of them.
        images: those of the trials, to be used again; None without trials.
    """

    args: StudentArguments
    found: dict[str, Any]
    images: StudentImages | None


def tune(
    data: DataArguments, args: StudentArguments, splits: ImageSplits, teacher: Teacher | None, resume: str | None
) -> TunedRun:
    """The run that counts, by ``--trials`` or ``--settings_of``.

    With ``--trials`` the output folder is claimed, the trials that are missing are run, and search.json is written.

    Args:
        data, args, splits, teacher: of the run; ``args`` as they were given, and they stay so.
        resume: the checkpoint that the run that counts goes on from; its search is over.

    Raises:
        InputError: on whatever cannot work, before anything is written.
    """
    images = None
    if args.settings_of:
        if Path(args.settings_of).resolve() == Path(args.output_dir).resolve():
            raise InputError(
                f"--settings_of {args.settings_of} is --output_dir too: choose another folder for this run"
            )
        found, source = read_search(args.settings_of, "--settings_of"), f"--settings_of {args.settings_of}"
    elif resume is not None:
        folder = str(Path(resume).parent)
        found, source = read_search(folder, "--resume_from_checkpoint"), f"search in {folder}"
        if found["trials"] != args.trials:
            raise InputError(f"{source} had {found['trials']} trials: resume with --trials {found['trials']}")
    else:
        found, images = run_search(data, args, splits, teacher)
        source = f"search in {args.output_dir}"
    check_searchable(list(found["settings"]), source)
    tuned = checked(args, found["settings"], source)
    check_effect(list(found["settings"]), tuned, source)
    logger.info("%s: %s", source, words(found["settings"]))
    return TunedRun(tuned, {name: found[name] for name in SUMMARY}, images)


def run_search(
    data: DataArguments, args: StudentArguments, splits: ImageSplits, teacher: Teacher | None
) -> tuple[dict[str, Any], StudentImages]:
    """What search.json holds, after the trials that were missing; and the images they were trained on."""
    space = SearchSpace.read(args.search_space)
    check_space(space, args, splits)
    # One with nothing drawn is set up at once, so that what cannot work is refused before anything is written.
    first = set_up_student(data, trial_arguments(args, {}), splits, teacher)
    wiring.claim_output_dir(args, data, "train_student", None)
    folder = Path(args.output_dir) / SEARCH
    identity = search_identity(space, data, args)
    if other_search(folder, identity):
        logger.info("the search in %s had other settings: it is replaced", folder)
        for name in (SETTINGS, JOURNAL, f"{JOURNAL}.lock"):
            (folder / name).unlink(missing_ok=True)
    folder.mkdir(exist_ok=True)
    wiring.write_json(folder / SETTINGS, identity)
    logger.info("search: %d trials, chosen on validation, over %s", args.trials, ", ".join(space.names))
    trainer = search_trainer(space, data, args, splits, teacher, first)
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
    wiring.write_json(Path(args.output_dir) / wiring.SEARCH_FILE, found)
    return found, first.images


def search_trainer(
    space: SearchSpace,
    data: DataArguments,
    args: StudentArguments,
    splits: ImageSplits,
    teacher: Teacher | None,
    first: StudentSetup,
) -> SearchTrainer:
    """The trainer of all trials, each set up as a run that counts is."""
    images = first.images  # and not the student beside them, which is to be freed

    def prepare(trial: StudentArguments) -> dict[str, Any]:
        with process.quiet(logging.WARNING):  # every trial would say the same
            setup = set_up_student(data, trial, splits, teacher, images)
            fit_teacher_head(setup, data, splits, teacher)
        wiring.settle_seed(trial)  # as the Trainer of a run that counts does once the student is built
        return setup.trainer_options()

    return SearchTrainer(space, args, prepare, first.trainer_options())


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
    folders = (args.teacher, args.student_init, *args.more_teachers)
    weights = [Path(folder or "") / "model.safetensors" for folder in folders]
    identity = {
        "data": asdict(data),
        "arguments": arguments,
        "space": space.describe(),
        "weights": [hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None for file in weights],
        "versions": wiring.versions(),
    }
    return json.loads(json.dumps(identity, default=str))


def other_search(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether trials lie there that are not of this search."""
    if not (folder / JOURNAL).is_file():
        return False
    return not (folder / SETTINGS).is_file() or wiring.read_json(folder / SETTINGS) != identity


def resume_point(data: DataArguments, args: StudentArguments) -> str | None:
    """``wiring.resume_point``; a run that was killed in its search has no checkpoint, and goes on with the search.

    Raises:
        InputError: nothing to resume, or a search of other settings.
    """
    folder = Path(args.output_dir)
    wish = str(args.resume_from_checkpoint).lower() in ("true", "latest", "yes")
    begun = (folder / SEARCH / JOURNAL).is_file() and not (folder / "metrics.json").is_file()
    if not (args.trials and wish and begun) or any(map(complete_checkpoint, folder.glob("checkpoint-*"))):
        return wiring.resume_point(args)
    if other_search(folder / SEARCH, search_identity(SearchSpace.read(args.search_space), data, args)):
        raise InputError(
            f"the search in {folder} had other settings: give those, or --overwrite_output_dir to search anew"
        )
    args.resume_from_checkpoint, args.overwrite_output_dir = None, True
    return None
