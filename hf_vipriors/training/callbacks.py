"""Callbacks: the method's own clock, the progress bar, and a word about cores that others use."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping

import torch
import transformers
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ..machine import seconds_waiting_for_cores
from ..methods import Method, Progress

logger = logging.getLogger(__name__)
# On two cores: 0.02 alone, 0.7 beside one busy process.
MOST_WAITING = 0.3


class StepHooks(TrainerCallback):
    """Tells the method when an optimizer step begins and ends: once a step, whatever the accumulation.

    The method is the one that is training: a search trains one after another.

    Args:
        on_training: called once, when everything is set up.
        on_step: called before the first micro-batch of each step.
    """

    def __init__(self, on_training: Callable[[], None], on_step: Callable[[], None]):
        self.on_training, self.on_step = on_training, on_step

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self.on_training()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: Method, **kwargs
    ) -> None:
        self.on_step()
        model.begin_step(self._progress(args, state))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: Method, **kwargs
    ) -> None:
        model.end_step(self._progress(args, state))

    @staticmethod
    def _progress(args: TrainingArguments, state: TrainerState) -> Progress:
        share = state.global_step / max(1, state.max_steps)
        return Progress(step=state.global_step, epoch=state.epoch or 0.0, share=share)


class ProgressBar(TrainerCallback):
    """One bar over the run with loss, its parts, learning rate, images per second and the last evaluation.

    A contrastive loss stands beside its chance level, the loss of a network that has learnt nothing: "is 8.32 normal?"
    answers itself. Evaluations leave a line each, so that a log file tells the story too.

    Args:
        parts: logged part -> its short name in the bar; see :attr:`hf_vipriors.methods.Method.parts_shown`.
        chance: that level, or None.
    """

    def __init__(self, parts: Mapping[str, str], chance: float | None = None):
        self.parts, self.chance = parts, chance
        self.bar: tqdm | None = None
        self.shown: dict[str, str] = {}

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero:
            # In a file a bar is only noise: a line every so often is enough.
            interval = 0.2 if sys.stderr.isatty() else 30.0
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, mininterval=interval, dynamic_ncols=True)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if self.bar is None or not logs:
            return
        if "loss" in logs:
            chance = "" if self.chance is None else f" (chance {self.chance:.2f})"
            self.shown["loss"] = f"{logs['loss']:.3f}{chance}"
            self.shown |= {short: f"{logs[name]:.3g}" for name, short in self.parts.items() if name in logs}
            self.shown["lr"] = f"{logs['learning_rate']:.2g}"
            self.shown["img/s"] = f"{logs['images_per_second']:.0f}"
        for name, label in (("eval_peer_knn_top1", "peer kNN"), ("eval_knn_top1", "kNN"), ("eval_top1", "val")):
            if name in logs:
                self.shown[label] = f"{100 * logs[name]:.1f}%"
        if "eval_effective_rank" in logs and "eval_knn_top1" not in logs:  # no image has a label
            self.shown["rank"] = f"{logs['eval_effective_rank']:.1f}"
        if "eval_runtime" in logs:
            self.bar.write(self._line(state), file=sys.stderr)
        self.bar.set_postfix(self.shown, refresh=False)

    def _line(self, state: TrainerState) -> str:
        shown = "  ".join(f"{name} {value}" for name, value in self.shown.items() if name != "img/s")
        return f"  epoch {state.epoch or 0:6.1f}/{state.num_train_epochs}  {shown}"

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.close()

    def close(self) -> None:
        """End its line, for what is said next; also of a training that an error ends."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def show_progress(trainer: transformers.Trainer, bar: ProgressBar) -> None:
    """The bar in place of what transformers has added itself, the last of its kind; a notebook's table stays."""
    quiet = trainer.args.disable_tqdm
    usual = PrinterCallback if quiet else transformers.trainer.DEFAULT_PROGRESS_CALLBACK
    if usual in (PrinterCallback, ProgressCallback):
        trainer.remove_callback([each for each in trainer.callback_handler.callbacks if type(each) is usual][-1])
        if not quiet:
            trainer.add_callback(bar)


def close_bars(trainer: transformers.Trainer) -> None:
    """End the bars of a training that ended, also by an error."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, ProgressBar):
            callback.close()


class SharedCores(TrainerCallback):
    """Says once that other processes slow a training of several threads down.

    The threads of an operation wait for the last of them, spinning: one core that is shared costs all of them their
    time. On two cores, one busy process beside a training makes it four to 25 times slower, and with a single thread
    it would lose a tenth to a half.
    """

    watches = False  # an evaluation may come before any training

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.watches = args.should_log and args.device.type == "cpu" and torch.get_num_threads() > 1
        self._since = time.perf_counter(), seconds_waiting_for_cores()

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if not self.watches:
            return
        (then, before), now, waited = self._since, time.perf_counter(), seconds_waiting_for_cores()
        if now - then < 1:  # too short to tell
            return
        self._since = now, waited
        if (waited - before) / (now - then) > MOST_WAITING:
            self.watches = False
            logger.warning(
                "at step %d: other programs use the cores that the %d threads of this training want, which makes it "
                "several times slower; end them, or start it again with OMP_NUM_THREADS=1",
                *(state.global_step, torch.get_num_threads()),
            )
