"""``--time_limit 30m``: a run as long as its time allows, settled before it begins and kept while it goes on."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import tempfile
import time
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.utils.data import Subset
from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ..backbones import feature_dim
from ..errors import InputError
from ..logs import quiet
from ..methods import METHODS, Method
from ..options import parse_time_limit
from ..reports.report_text import duration
from ..views.corruptions import CORRUPTIONS, SEVERITIES
from .arguments import WITHOUT_TRACES, RunArguments
from .evaluating import EvaluatingTrainer
from .optimizer import OptimizerTrainer
from .resumption import read_record, total_steps
from .run_identity import IN_EPOCHS, LENGTH, scaled_epochs
from .setup import seed_everything

logger = logging.getLogger(__name__)
# Of the limit: what trying may take, and what is spared so that a run which is a little slower than it was at first
# still ends in time: once when its length is settled, once more when it is shortened.
TRIED, SPARE = 0.03, 0.03
LEAST_SPARE = 1.5  # seconds: files are written and the process ends, however short the limit
LEAST_TRIED, LEAST_SECONDS, MOST_SECONDS = 4, 1.0, 30.0  # steps, and how long they are tried
BATCHES = 4  # of evaluation that are timed


class Stopwatch(TrainerCallback):
    """Ends a trial after ``budget`` seconds, and times its second half: the first steps compile what they need.

    Args:
        trainer: whose main process's clock counts for all.
        budget: seconds from the first step on.
    """

    def __init__(self, trainer: TimedTrainer, budget: float):
        self.trainer, self.budget = trainer, budget
        self.times: list[float] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self.trainer.args.device.type != "cpu":
            torch.accelerator.synchronize()
        self.times.append(time.monotonic())
        passed = self.trainer.of_main_process(self.times[-1] - self.times[0])
        if len(self.times) >= LEAST_TRIED and passed >= self.budget:
            control.should_training_stop = True

    def seconds_per_step(self) -> float:
        """Mean over the second half, what lies between epochs included."""
        timed = self.times[(len(self.times) - 1) // 2 :]
        return (timed[-1] - timed[0]) / (len(timed) - 1)


class Deadline(TrainerCallback):
    """Shortens the rest of a run that has become slower than it was when its length was settled.

    Looks whenever something is logged, and measures from the first log on: before it, kernels are compiled. A run that
    can be finished as it is stays as it is.
    """

    def __init__(self, trainer: TimedTrainer):
        self.trainer = trainer
        self.since: tuple[float, int] | None = None  # time and step of the first log

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.since = None

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.trainer.deadline = math.inf  # another train() has a time of its own

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self.trainer.deadline == math.inf:
            return
        if not (control.should_log or control.should_evaluate) or state.global_step >= state.max_steps:
            return
        now = time.monotonic()
        left = self.trainer.of_main_process(self.trainer.deadline - self.trainer.tail - now)
        step, before = state.global_step, state.max_steps
        began, first = self.since = self.since or (now, step)
        pace = self.trainer.of_main_process((now - began) / max(1, step - first))
        fitting = step + max(0, int(left / max(pace, 1e-9)))
        if fitting >= before:
            return
        self.trainer.shorten(fitting)
        limit = f"--time_limit {args.time_limit}"
        if fitting > step:
            self.trainer.guards.say(
                "slower_than_planned",
                step,
                f"steps take longer than at first ({pace:.2g} s): to end within {limit} the run has {fitting} steps "
                f"in place of {before}, and its learning rate falls faster",
            )
        else:
            self.trainer.guards.say(
                "time_limit_reached", step, f"{limit} is reached: the run ends {before - step} steps early"
            )
            control.should_training_stop = True
            control.should_evaluate = control.should_evaluate or args.eval_strategy == IntervalStrategy.STEPS
            control.should_save = control.should_save or args.save_strategy == SaveStrategy.STEPS


class TimedTrainer(EvaluatingTrainer, OptimizerTrainer):
    """A ``Trainer`` whose run ends, saved and scored, within a time that was given.

    Its length is settled before the first step: steps of a copy are timed and thrown away, some images of evaluation
    as well, and the run is as many epochs as fit, never more than it would have without the limit. A run of that
    length without a limit ends with the same weights.
    """

    args: RunArguments
    guards: Any
    prepared: bool  # whether what the method does before its first step is done
    deadline = math.inf  # of the whole run, by time.monotonic()
    tail = 0.0  # seconds from the last step to the end

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.add_callback(Deadline(self))

    def settle_length(self, began: float, checkpoint: str | None = None) -> None:
        """Fill the epochs, or steps, that fit; once before each training. Every process must call it.

        Args:
            began: when the time began to count, by ``time.monotonic()``.
            checkpoint: that the run goes on from: it has the length that was settled then.

        Raises:
            InputError: not even one step fits.
        """
        args = self.args
        if args.time_limit is None or self.deadline < math.inf:
            return
        limit = parse_time_limit(args.time_limit)
        spare = max(SPARE * limit, LEAST_SPARE)
        self.deadline = began + limit - spare
        image = self.of_main_process(self._seconds_per_image())
        evaluation, self.tail = (image * count for count in self._images_measured())
        self.tail += self.of_main_process(self._seconds_at_end())
        if checkpoint is not None:
            self._take_length(checkpoint)
            return
        step = self.of_main_process(self._seconds_per_step(min(max(TRIED * limit, LEAST_SECONDS), MOST_SECONDS)))
        passed = self.of_main_process(time.monotonic() - began)
        told = f"{duration(passed)} until now, {step:.2g} s a step, {duration(evaluation)} an evaluation, "
        told += f"{duration(self.tail)} at the end"
        self._fill_length(limit - 2 * spare - passed - self.tail, step, evaluation, told)

    def _take_length(self, checkpoint: str) -> None:
        had = read_record(checkpoint)
        before = self.args.num_train_epochs
        for name in (*LENGTH, *IN_EPOCHS):
            if name in had and name in vars(self.args):
                self.setup.resolved.fill(name, had[name], f"that of {checkpoint}")
        self.setup.method.scale_epochs(self.args.num_train_epochs / before)

    def _fill_length(self, left: float, step: float, evaluation: float, told: str) -> None:
        args, images = self.args, len(self.train_dataset)
        whole, per_epoch = total_steps(args, images), args.steps_per_epoch(images)
        evaluations, per_step = self._evaluations(per_epoch)
        before = 0 if self.prepared else METHODS[args.method].steps_before(args, per_epoch)
        left -= evaluations * evaluation
        share = left / ((whole + before) * step + whole * per_step * evaluation)
        fits = int(whole * share)
        if fits < 1:
            raise InputError(
                f"--time_limit {args.time_limit} is too short for a training ({told}): give more time, fewer "
                "evaluations (--eval_steps 0.5, or --eval_strategy no), a smaller network or --image_size"
            )
        if fits >= whole:
            logger.info("time limit %s: all %d steps fit (%s)", args.time_limit, whole, told)
            return
        source = f"what fits into {args.time_limit} ({told})"
        if args.max_steps > 0:
            self.setup.resolved.fill("max_steps", fits, source)
            logger.info("time limit %s: %d steps in place of %d (%s)", args.time_limit, fits, whole, told)
            return
        epochs = fits / per_epoch
        epochs = float(math.floor(epochs)) if epochs >= 2 else epochs
        logger.info(
            "time limit %s: %.3g epochs in place of %g (%s)", args.time_limit, epochs, args.num_train_epochs, told
        )
        self._scale_epochs(epochs / args.num_train_epochs, source)
        self.setup.resolved.fill("num_train_epochs", epochs, source)  # exactly

    def _scale_epochs(self, share: float, source: str) -> None:
        for name, value in scaled_epochs(self.args, share).items():
            self.setup.resolved.fill(name, value, source)
        self.setup.method.scale_epochs(share)

    def _evaluations(self, per_epoch: int) -> tuple[int, float]:
        """How many evaluations a run has whatever its length, and how many for each step."""
        if self.args.eval_strategy == IntervalStrategy.NO or self.eval_dataset is None:
            return 0, 0.0
        if self.args.eval_strategy == IntervalStrategy.EPOCH:
            return 0, 1 / per_epoch
        every = self.args.eval_steps or self.args.logging_steps
        return (math.ceil(1 / every), 0.0) if every < 1 else (0, 1 / every)

    def _images_measured(self) -> tuple[int, int]:
        """Images that pass a network in an evaluation, and after the last step."""
        stores, splits = self.setup.stores, self.setup.splits.splits
        labelled = sum(len(stores[name]) for name in ("bank", "validation") if name in stores)
        test = len(splits["test"]) if "test" in splits else 0
        if METHODS[self.args.method].job == "student":
            tests = 1 + (len(CORRUPTIONS) * len(SEVERITIES) if vars(self.args)["corruptions"] else 0)
            at_end = self._images_at_end()
            return labelled, test * tests + at_end + (2 * labelled if at_end else 0)
        models = len(self.model.evaluated())
        # Twice: the linear probe is fitted for some costs beside.
        return models * labelled, 2 * models * (labelled + test) if "bank" in stores else 0

    def _images_at_end(self) -> int:
        pool = METHODS[self.args.method].pool_at_end(self.args)
        return sum(map(len, self.training_samples(pool))) if pool else 0

    def _seconds_at_end(self) -> float:
        if not (images := self._images_at_end()):
            return 0.0
        width = feature_dim(self.setup.method.deployable().backbone)
        return METHODS[self.args.method].seconds_at_end(images, width, len(self.setup.class_names))

    def _seconds_per_step(self, budget: float) -> float:
        """Of a copy of the method, so that nothing of the trial stays."""
        whole = {"logging_strategy": "no", "load_best_model_at_end": False, "num_train_epochs": 1e4, "max_steps": -1}
        with tempfile.TemporaryDirectory() as folder, quiet(logging.WARNING):
            args = dataclasses.replace(self.args, output_dir=folder, time_limit=None, **whole, **WITHOUT_TRACES)
            trial = self.trainer_beside(copy.deepcopy(self.setup.method), self.setup.views, args)
            trial.prepared = True
            stopwatch = Stopwatch(self, budget)
            trial.add_callback(stopwatch)
            trial.train()
        seed_everything(self.args)  # as when this trainer was made
        return stopwatch.seconds_per_step()

    def _seconds_per_image(self) -> float:
        """Of an evaluation; 0 where nothing is measured."""
        stores = self.setup.stores
        store = next((stores[name] for name in ("validation", "test", "bank") if name in stores), None)
        if store is None:
            return 0.0
        some = Subset(store, range(min(len(store), BATCHES * self.args.eval_batch_size * self.args.world_size)))
        start = time.monotonic()
        self.predictions(some)
        return (time.monotonic() - start) / len(some)

    def of_main_process(self, value: float) -> float:
        """The main process's value, for all to decide alike. Every process must ask."""
        values = [value]
        if self.args.world_size > 1:
            broadcast_object_list(values)
        return values[0]

    def trainer_beside(self, method: Method, views: nn.Module, args: RunArguments) -> TimedTrainer:
        raise TypeError(f"{type(self).__name__} must define trainer_beside()")
