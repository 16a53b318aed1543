"""The part of a trainer that trains again and again: one trial of a search after another, each made anew."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from torch import nn
from transformers import Trainer

from ..backbones import to_channels_last
from ..errors import InputError
from ..logs import quiet
from ..methods import Method
from .setup import Setup, seed_everything, set_up


class RepeatableTrainer(Trainer):
    """``hyperparameter_search`` with the contract of ``transformers.Trainer``, and no ``model_init``."""

    setup: Setup
    views: nn.Module

    def hyperparameter_search(self, *args: Any, **options: Any):
        """As in ``Trainer``, without ``model_init``: each trial is set up anew, data, network and method.

        Raises:
            InputError: the trainer was made around a network or method that cannot be made anew.
        """
        if not self.setup.repeatable:
            raise InputError("a search makes the network anew for each trial: give its name or a VipriorsConfig")
        self.model_init = self._fresh_method
        try:
            return super().hyperparameter_search(*args, **options)
        finally:
            self.model_init = None

    def trial_setup(self, trial: Any) -> Setup:
        """The setup of one trial of a search."""
        setup = self.setup
        given = dataclasses.replace(setup.given, **self.hp_space(trial))
        teachers = setup.method.teachers()
        with quiet(logging.WARNING):  # every trial would say the same
            return set_up(given, setup.data, setup.splits, teacher=teachers[0].model if teachers else None)

    def _fresh_method(self, trial: Any) -> Method:
        self.setup = self.trial_setup(trial)
        vars(self.args).update(vars(self.setup.args))  # in place: the Trainer holds on to the object
        self.train_dataset, self.eval_dataset = self.setup.stores["train"], self.setup.stores.get("validation")
        self.views = self.setup.views.to(self.args.device)
        self._parts.clear()
        self.setup.method.prepare(self)
        seed_everything(self.args)  # as the Trainer of a run that counts does once its network is built
        return to_channels_last(self.setup.method)
