"""The part of a trainer that trains again and again: one trial of a search after another, each made anew."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import Trainer

from ..backbones import to_channels_last
from ..errors import InputError
from ..logs import quiet
from ..methods import Method
from ..options import unknown_option
from .setup import Setup, seed_everything, set_up


class RepeatableTrainer(Trainer):
    """``hyperparameter_search`` with the contract of ``transformers.Trainer``, and no ``model_init``."""

    setup: Setup
    views: nn.Module
    _start: Setup  # of a search
    _start_args: dict[str, Any]
    _set_before: dict[str, Any]  # in trainer.args, by a person

    def hyperparameter_search(
        self,
        hp_space: Callable | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        n_trials: int = 20,
        direction: str | list[str] | None = None,
        backend: str | None = None,
        hp_name: Callable | None = None,
        **options: Any,
    ):
        """As in ``Trainer``, without ``model_init``: each trial is set up anew, data, network and method.

        Trials begin with what is set in ``trainer.args``, and what they draw. Afterwards ``trainer.args`` are what
        they were, and ``train()`` begins anew with what is set in them then.

        Args:
            hp_space, n_trials, backend, hp_name, options: as in ``Trainer``.
            compute_objective: None: ``metric_for_best_model`` (with the scheduler ``reduce_lr_on_plateau`` that is the
                loss), or where it is not given the top-1, of a teacher the kNN's (NOTE the sum of all metrics in
                ``Trainer``, accuracies included, which it minimises).
            direction: "minimize" or "maximize"; follows where ``compute_objective`` is left out.

        Raises:
            InputError: an objective without a direction, or a direction that makes the trainer's own the worst; the
                trainer was made around a network or method that cannot be made anew; a trial draws what is no option.
        """
        if not self.setup.repeatable:
            raise InputError(
                "a search makes the network anew for each trial: give its name or a VipriorsConfig, and a teacher to "
                "start from by its folder or name"
            )
        if compute_objective is None:
            compute_objective, better = self._best_metric()
            if direction not in (None, better):
                raise InputError(f"direction {direction!r} needs compute_objective: the trainer's own is to {better}")
            direction = better
        if direction is None:
            raise InputError('the objective needs a direction: add direction="maximize" (of a loss "minimize")')
        self._start, self._start_args = self.setup, dict(vars(self.args))
        self._set_before = self.setup.resolved.set_since(self.args)
        self.model_init = self._fresh_method
        try:
            return super().hyperparameter_search(
                hp_space, compute_objective, n_trials, direction, backend, hp_name, **options
            )
        finally:
            self.setup = self._start
            vars(self.args).update(self._start_args)
            self.model_init = self._method_of_args

    def _best_metric(self) -> tuple[Callable[[dict[str, float]], float], str]:
        """What a search chooses by where nobody says it, and in which direction."""
        chosen = self.args.metric_for_best_model or self.args.best_metric
        name, largest = f"eval_{chosen.removeprefix('eval_')}", self.args.greater_is_better
        if largest is None:
            largest = not chosen.endswith("loss")

        def objective(metrics: dict[str, float]) -> float:
            if name not in metrics:
                raise InputError(f"no evaluation measures {name!r}: give compute_objective and direction")
            return metrics[name]

        return objective, "maximize" if largest else "minimize"

    def trial_setup(self, trial: Any) -> Setup:
        """The setup of one trial of a search."""
        return self._set_up_with(self._set_before | self.hp_space(trial))

    def _set_up_with(self, options: dict[str, Any]) -> Setup:
        start = self._start
        known = {field.name for field in dataclasses.fields(start.given)}
        if unknown := [name for name in options if name not in known]:
            raise unknown_option(unknown[0], known)
        given = dataclasses.replace(start.given, **options)
        teachers = start.method.teachers()
        with quiet(logging.WARNING):  # every trial would say the same
            made = set_up(
                given, start.data, start.splits,
                teacher=teachers[0].model if teachers else None,
                stores=None if start.splits.splits else start.stores,
            )  # fmt: skip
        return dataclasses.replace(made, title=start.title)

    def _method_of_args(self) -> Method:
        """After a search: the method with what a person has set in ``trainer.args`` since."""
        # Images to validate on may have been set since, too.
        self._start = dataclasses.replace(self._start, splits=self.setup.splits, stores=self.setup.stores)
        method = self._take(self._set_up_with(self._start.resolved.set_since(self.args)))
        self.create_accelerator_and_postprocess()  # new arguments have reset its state
        return method

    def _fresh_method(self, trial: Any) -> Method:
        return self._take(self.trial_setup(trial))

    def _take(self, setup: Setup) -> Method:
        self.setup = setup
        vars(self.args).update(vars(self.setup.args))  # in place: the Trainer holds on to the object
        self.views = self.setup.views.to(self.args.device)
        self._parts.clear()
        self.setup.method.prepare(self)
        seed_everything(self.args)  # as the Trainer of a run that counts does once its network is built
        return to_channels_last(self.setup.method)
