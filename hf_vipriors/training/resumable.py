"""A ``Trainer`` that loses nothing: whole checkpoints, logs that go on where they were, signals that save."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import IntervalStrategy, rotate_checkpoints

from ..disk_errors import explain_disk_error
from ..errors import InputError, one_line
from ..files import save_tensors
from ..logs import quiet
from .checkpoints import STAGING, check_is_checkpoint, first_not_finite, newest_checkpoint, seal
from .run_folder import resumes_in_place
from .signals import StopOnSignal

logger = logging.getLogger(__name__)


class SaveAfterEpoch(TrainerCallback):
    """Puts a save that falls on the end of an epoch behind the log and evaluation that an epoch ends with.

    Otherwise a run resumed from that checkpoint would go straight on with the next epoch.
    """

    def __init__(self) -> None:
        self.postponed = False

    def on_step_end(self, args, state, control, **kwargs) -> None:
        ends = control.should_training_stop or float(state.epoch).is_integer()
        if control.should_save and ends and IntervalStrategy.EPOCH in (args.eval_strategy, args.logging_strategy):
            control.should_save, self.postponed = False, True

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        control.should_save = control.should_save or self.postponed
        self.postponed = False


class LogWindow(TrainerCallback):
    """Begins the training with what a checkpoint had summed since the last log: a save may fall between two logs."""

    def __init__(self, trainer: ResumableTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.trainer.restore_window()


class Diverged(InputError):
    """A training reached a number that is none."""


class ResumableTrainer(Trainer):
    """What makes a run that was killed and resumed end as if it had never been killed.

    - A checkpoint is staged in a hidden folder, and sealed once every process has written what is its own.
    - Losses and their parts summed since the last log are in it, one file a process.
    - A signal becomes a save at the end of the step; see :class:`StopOnSignal`.
    - Weights that are no numbers are not saved: the checkpoint before them stays.
    """

    def __init__(self, *args: Any, **options: Any):
        self._parts: dict[str, list[Tensor]] = defaultdict(list)
        self._staging, self._resumed, self._summed_since = False, None, 0
        super().__init__(*args, **options)
        self.signals = StopOnSignal(self.kept_without_checkpoints())
        for callback in (LogWindow(self), self.signals, SaveAfterEpoch()):
            self.add_callback(callback)

    def kept_without_checkpoints(self) -> str | None:
        """What remains of a run that was stopped and saves nothing, in words."""
        return None

    def before_training(self, checkpoint: str | None) -> None:
        """What a training does before its first step, or before it goes on from ``checkpoint``."""

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any):
        folder = Path(self.args.output_dir)
        if resume_from_checkpoint is True:
            resume_from_checkpoint = newest_checkpoint(self.args.output_dir)
        elif resume_from_checkpoint:
            check_is_checkpoint(resume_from_checkpoint)
        self._resumed = resume_from_checkpoint or None
        if self._resumed is not None:
            self.args.eval_on_start = False  # it was
        if self.args.should_save:
            shutil.rmtree(folder / STAGING, ignore_errors=True)  # of a run that was killed while saving
        self.accelerator.wait_for_everyone()
        self.before_training(self._resumed)
        with self.signals.listening():
            self.signals.saved = self._resumed if resumes_in_place(self.args, self._resumed) else None
            found = super().train(resume_from_checkpoint=self._resumed, **options)
            self.signals.stop_if_asked(self.state.global_step)
        # The mean over the whole run, as it is logged, not over what followed a resumption.
        return found._replace(training_loss=found.metrics["train_loss"])

    def _init_training_state(
        self, max_steps: int, steps_per_epoch: int, epochs: int, checkpoint: str | None, trial: Any
    ) -> tuple[int, int]:
        """Steps of logs, saves and evaluations are those that this run asks for, not those of the checkpoint."""
        with quiet(logging.ERROR, "transformers.trainer_utils"):  # it compares shares of a run with steps
            found = super()._init_training_state(max_steps, steps_per_epoch, epochs, checkpoint, trial)
        self.state.compute_steps(self.args, max_steps)
        return found

    def _run_epoch(self, **options: Any) -> None:
        """Nothing where all steps were taken: the Trainer would take one more first."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(**options)

    # Checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        directory = super()._get_output_dir(trial)
        return os.path.join(directory, STAGING) if self._staging else directory

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Staged, then sealed by the main process when all have written; only then are old ones removed.

        Raises:
            InputError: the weights are no numbers any more, or the disk is full. The checkpoints before stay.
        """
        self._staging = True
        try:
            super()._save_checkpoint(model, trial)
            staged = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            self._staging = False
            self._seal(staged, Path(self._get_output_dir(trial)) / staged.name)
        except (OSError, SafetensorError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "inline_container" not in str(error):  # what torch.save writes with
                raise
            self._discard()
            outputs = [Path(self.args.output_dir)]
            why = explain_disk_error(error, outputs, unnamed="or choose another --output_dir") or one_line(error, 200)
            raise InputError(
                f"checkpoint-{self.state.global_step} could not be written to {self.args.output_dir}: {why}; "
                f"{self.resume_hint(by_path=True)}"
            ) from None
        finally:
            self._staging = False

    def _seal(self, staged: Path, final: Path) -> None:
        if self.state.best_global_step:
            best = final.with_name(f"checkpoint-{self.state.best_global_step}")
            if best == final or best.exists():
                self.state.best_model_checkpoint = str(best)
        self.accelerator.wait_for_everyone()
        wrong = first_not_finite(staged) if self.args.should_save else None
        if self._anywhere(wrong is not None):
            self._discard()
            raise self.diverged(f"{wrong or 'a tensor'} is not finite")
        if self.args.should_save:
            self.state.save_to_json(str(staged / TRAINER_STATE_NAME))  # the best one is known by its final name now
            seal(staged, final)
            with quiet(logging.ERROR, "transformers.trainer_utils"):  # it tells of file systems with coarse times
                rotate_checkpoints(
                    str(final.parent),
                    save_total_limit=self.args.save_total_limit,
                    best_model_checkpoint=self.state.best_model_checkpoint,
                    use_mtime=True,
                )
        self.accelerator.wait_for_everyone()
        self.signals.saved = str(final)

    def _discard(self) -> None:
        if self.args.should_save:
            shutil.rmtree(Path(self.args.output_dir) / STAGING, ignore_errors=True)

    def _anywhere(self, here: bool) -> bool:
        """Whether it is so on any process. Every process must ask."""
        if self.args.world_size == 1:
            return here
        return bool(self.accelerator.reduce(torch.tensor(float(here), device=self.args.device)).item())

    def diverged(self, what: str, where: str = "") -> Diverged:
        """What becomes of a training with a number that is none: its weights are none either, and stay so."""
        return Diverged(
            f"{what} at step {self.state.global_step}{where}: the training has diverged; lower --learning_rate "
            f"({self.args.learning_rate:g}), or clip: --max_grad_norm 1; {self.resume_hint()}"
        )

    def resume_hint(self, *, by_path: bool = False) -> str:
        """The checkpoint to go back to, in words; ``by_path``: perhaps with another ``output_dir``."""
        found = self.signals.saved or self._resumed
        if found is None:
            return "there is no checkpoint before it"
        how = "true" if self.signals.saved and not by_path else shlex.quote(str(found))
        return f"{found} is the last good checkpoint (--resume_from_checkpoint {how})"

    # Logs

    def _window_file(self, folder: str) -> Path:
        return Path(folder) / f"log_window_{self.args.process_index}.safetensors"

    def _save_rng_state(self, output_dir: str) -> None:
        """Of each process: its random numbers, and what it has summed since the last log."""
        super()._save_rng_state(output_dir)
        tensors = {f"parts.{name}": torch.stack(values) for name, values in self._parts.items()}
        tensors["loss"] = self._tr_loss
        tensors["total"] = torch.tensor(self._total_loss_scalar, dtype=torch.float64)
        tensors["last_logged"] = torch.tensor(self._globalstep_last_logged)
        tensors["summed_since"] = torch.tensor(self._summed_since)
        save_tensors(tensors, self._window_file(output_dir))

    def restore_window(self) -> None:
        """Go on summing. Other processes than those that saved begin anew, as do runs of earlier versions."""
        self._parts.clear()
        self._summed_since = self.state.global_step
        if self._resumed is None or not self._window_file(self._resumed).is_file():
            return
        found = load_file(self._window_file(self._resumed))
        found = {name: value.to(self.args.device) for name, value in found.items()}
        self._tr_loss = found["loss"]
        self._total_loss_scalar = found["total"].item()
        self._globalstep_last_logged, self._summed_since = int(found["last_logged"]), int(found["summed_since"])
        for name, values in found.items():
            if name.startswith("parts."):
                self._parts[name.removeprefix("parts.")] = list(values)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "train_loss" in logs:  # the mean over the whole run, not over what followed the resumption
            steps = self.state.global_step - self._summed_since
            logs["train_loss"] = self._total_loss_scalar / max(steps, 0.001)
        super().log(logs, start_time)
