"""Signals that end a run: the step is finished, a checkpoint saved, and the run says how it goes on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed
from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy

# Ctrl-C, the end of a job or container, what SLURM's --signal=USR1 sends ahead of it, and a terminal that is closed.
STOPPING = tuple(n for n in signal.Signals if n.name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"))
_listening: tuple[signal.Signals, ...] = ()


class Stopped(SystemExit):
    """A signal ended the training at the border of a step. As an exit code: 128 + the signal, as in a shell.

    Attributes:
        number: the signal.
        text: when it stopped, and what was kept.
        goes_on: whether the run can be resumed.
    """

    def __init__(self, number: signal.Signals, text: str, *, goes_on: bool):
        super().__init__(128 + number)
        self.number, self.text, self.goes_on = number, text, goes_on

    def __str__(self) -> str:
        return self.text


class Interrupted(Stopped, KeyboardInterrupt):
    """Ctrl-C: for ``except KeyboardInterrupt`` as for who ends with the exit code."""


class StopOnSignal(TrainerCallback):
    """Turns a signal into a save at the end of the step, and then into :class:`Stopped`.

    Several processes agree on the step: what one of them received is reduced beside the step that follows, on the
    CPU, so that no device waits; they stop one step later. A single process only looks at a variable.

    Args:
        kept: what remains of a run without checkpoints, in words, such as finished trials; None for nothing.

    Attributes:
        saved: the newest whole checkpoint of this run, or None.
    """

    def __init__(self, kept: str | None = None):
        self.kept = kept
        self.saved: str | None = None
        self._begin()

    def _begin(self) -> None:
        self._received = 0
        self._agreed = 0
        self._group: distributed.ProcessGroup | None = None
        self._asked: tuple[distributed.Work, torch.Tensor] | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals as requests; only the main thread can, another one leaves them as they are.

        A SIGHUP that nohup had ignored stays so: its runs go on when the terminal is closed.
        """
        global _listening
        self._begin()
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        ignored = [n for n in STOPPING if n.name == "SIGHUP" and signal.getsignal(n) == signal.SIG_IGN]
        before = {number: signal.signal(number, self._receive) for number in STOPPING if number not in ignored}
        _listening = tuple(before)
        try:
            yield
        finally:
            _listening = ()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: object) -> None:
        self._received = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # the next one ends at once
        if int(os.environ.get("RANK", "0")) == 0:
            again = "; Ctrl-C again ends at once" if number == signal.SIGINT else ""
            # No logger: the signal may have come while one held its lock.
            try:
                os.write(2, f"\n{signal.Signals(number).name}: the step is finished first{again}\n".encode())
            except OSError:  # the terminal is gone: whatever else is written there would end the run before it saves
                _write_to_nowhere()

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if args.world_size > 1:
            self._group = distributed.new_group(backend="gloo")

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self._ask()
        if not self._agreed:
            return
        if args.save_strategy == SaveStrategy.NO:
            self.stop(state.global_step)
        control.should_save = True

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        if self._group is None and self._received:  # before another step, which may take long
            control.should_save = args.save_strategy != SaveStrategy.NO

    def on_save(self, args, state, control, **kwargs) -> None:
        if self._agreed or (self._group is None and self._received):
            self.stop(state.global_step)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        if self._group is not None:
            self._ask()
            self._ask(last=True)
            distributed.destroy_process_group(self._group)

    def _ask(self, last: bool = False) -> None:
        """What all processes received by the step before; and ask for the next."""
        if self._group is None:
            self._agreed = self._received
            return
        if self._asked is not None:
            work, answer = self._asked
            work.wait()
            self._agreed, self._asked = int(answer), None
        if not self._agreed and not last:
            answer = torch.tensor(self._received)
            options = {"op": distributed.ReduceOp.MAX, "group": self._group, "async_op": True}
            self._asked = distributed.all_reduce(answer, **options), answer

    def stop_if_asked(self, step: int) -> None:
        """After the training, whose last save came before the signal."""
        if self._group is None:
            self._agreed = self._received
        if self._agreed:
            self.stop(step)

    def stop(self, step: int) -> None:
        number = signal.Signals(self._agreed or self._received)
        if self.saved is not None:
            kept = f"saved in {self.saved}"
        else:
            kept = self.kept or "nothing was saved (--save_strategy no)"
        text = f"stopped by {number.name} at step {step}: {kept}"
        kind = Interrupted if number == signal.SIGINT else Stopped
        raise kind(number, text, goes_on=self.saved is not None or self.kept is not None)


def _write_to_nowhere() -> None:
    """Bars and lines of log are written without an error, and read by nobody."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _leave_group() -> None:
    """In a fork, as a data worker is: a signal to the whole group, as Ctrl-C is, must not end it before the step."""
    if _listening:
        os.setpgrp()
        for number in _listening:
            signal.signal(number, signal.SIG_DFL)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_leave_group)
