"""Hyperparameter search for students, by ``Trainer.hyperparameter_search`` and Optuna, chosen on validation.

References:
    [0] Algorithms for Hyper-Parameter Optimization (the tree-structured Parzen estimator),
        https://papers.nips.cc/paper_files/paper/2011/hash/86e8f7ab32cfd12577bc2619bc635690-Abstract.html
    [1] Optuna: A Next-generation Hyperparameter Optimization Framework, https://arxiv.org/abs/1907.10902
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from ..errors import one_line
from ..evaluation.features import NotFinite, Outputs
from ..training.arguments import WITHOUT_TRACES
from ..training.resolve import complete
from ..training.resumable import Diverged
from ..training.setup import Setup
from ..training.signals import Interrupted, Stopped
from ..training.stores import Store
from ..training.student_arguments import StudentArguments
from ..training.trainers import StudentTrainer
from .space import SearchSpace, tuned_arguments

logger = logging.getLogger(__name__)

JOURNAL = "journal.log"
STUDY = "search"
# A trial leaves nothing behind but its score: one validation, at its end.
TRIAL_OPTIONS = WITHOUT_TRACES | {"resume_from_checkpoint": None}


@dataclass(frozen=True)
class SearchTrial:
    """One finished trial.

    Attributes:
        number: 0 for the first.
        settings: option -> value.
        validation_top1: fraction of the validation images that the student got right when its training ended; 0 for
            one whose training diverged.
        seconds: training and validation.
    """

    number: int
    settings: dict[str, Any]
    validation_top1: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def trial_arguments(given: StudentArguments, settings: dict[str, Any]) -> StudentArguments:
    """The arguments of a trial: the run's, with ``settings``, quiet and without traces."""
    return tuned_arguments(given, {**settings, **TRIAL_OPTIONS})


class SearchTrainer(StudentTrainer):
    """Trains one student after another, each from the start with what a trial has drawn.

    With the same settings and seed a trial and a run are the same training: both are set up by the same function.

    Args:
        space: what is drawn.
        given: the run's arguments.
        first: setup of a trial with nothing drawn.
        set_up_trial: from a trial's arguments to its setup.
    """

    def __init__(
        self,
        space: SearchSpace,
        given: StudentArguments,
        first: Setup,
        set_up_trial: Callable[[StudentArguments], Setup],
    ):
        super().__init__(setup=first)
        self.space, self.given, self.set_up_trial = space, given, set_up_trial

    def trial_setup(self, trial: optuna.Trial) -> Setup:
        return self.set_up_trial(trial_arguments(self.given, self.space.draw(trial)))

    def kept_without_checkpoints(self) -> str:
        return "the trials that were finished are kept"

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any) -> Any:
        """A trial that diverges ends, and has what it is worth."""
        try:
            return super().train(resume_from_checkpoint, **options)
        except Diverged as error:
            logger.info("the trial ends here: %s", one_line(error).partition(";")[0])
        except Interrupted as stop:  # a KeyboardInterrupt would be a failed trial with a traceback to Optuna
            raise Stopped(stop.number, stop.text, goes_on=stop.goes_on) from None

    def finish(self) -> dict[str, Any]:
        """Nothing: a trial is worth what its last evaluation found."""
        return {}

    def measure(self, store: Store) -> tuple[Outputs, dict[str, float]]:
        try:
            return super().measure(store)
        except NotFinite:  # the training diverged, and that is this trial's score
            return Outputs(torch.empty(0), torch.empty(0)), {"loss": math.inf, "top1": 0.0}

    def search(
        self, trials: int, folder: Path, on_trial: Callable[[list[SearchTrial]], None] = lambda done: None
    ) -> list[SearchTrial]:
        """Run trials until ``trials`` of them are finished, those of an earlier start of the same search included.

        The first trial has the run's own settings, as far as the space holds them: a search of few trials should not
        end below what one would have had without it. Every trial has a sampler [0] of its own, seeded by (seed, trials
        finished before it): a search that was killed and started again draws what it would have drawn.

        Args:
            trials: how many.
            folder: holds the journal of the search [1]; made if it does not exist.
            on_trial: called with all finished trials after each.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        options: dict[str, Any] = {
            "direction": "maximize", "storage": storage, "study_name": STUDY, "load_if_exists": True
        }  # fmt: skip
        study = optuna.create_study(**options)
        for killed in study.get_trials(states=[TrialState.RUNNING]):
            study.tell(killed.number, state=TrialState.FAIL)
        if not study.get_trials(states=[TrialState.COMPLETE, TrialState.WAITING]):
            study.enqueue_trial(self._own_settings())
        while len(done := self._finished(study)) < trials:
            seed = np.random.SeedSequence((self.given.seed, len(done))).generate_state(1)
            self.hyperparameter_search(
                hp_space=lambda trial: {},  # drawn when the trial began
                compute_objective=lambda metrics: metrics["eval_top1"],
                n_trials=1,
                backend="optuna",
                sampler=optuna.samplers.TPESampler(seed=int(seed[0])),
                pruner=optuna.pruners.NopPruner(),
                **options,
            )
            on_trial(self._finished(study))
        return done[:trials]

    def _own_settings(self) -> dict[str, Any]:
        """What the study keeps of the run's settings; the setup knows what was left to defaults, batch and data."""
        given, found, config = vars(complete(self.given).args), self.setup.args, self.setup.config
        known = vars(found) | {"backbone": config.backbone, "backbone_args": config.backbone_args or {}}
        if given["learning_rate"] is not None:  # as it is, whatever the other says
            known["base_learning_rate"] = found.learning_rate * 256 / found.global_batch
        return self.space.kept(given) | self.space.kept(known)

    def _finished(self, study: optuna.Study) -> list[SearchTrial]:
        return [
            SearchTrial(number, self.space.settings(kept.params), kept.value, kept.duration.total_seconds())
            for number, kept in enumerate(study.get_trials(states=[TrialState.COMPLETE]))
        ]


def best_trial(trials: list[SearchTrial]) -> SearchTrial:
    """The one with the best validation top-1; of equals, the first.

    Example:
        >>> best_trial([SearchTrial(i, {}, top1, 1.0) for i, top1 in enumerate([0.5, 0.7, 0.7])]).number
        1
    """
    return max(trials, key=lambda trial: trial.validation_top1)
