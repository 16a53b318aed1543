"""What is timed: the real training, the same step without all around it, and the parts of a training step."""

from __future__ import annotations

import gc
import statistics
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import psutil
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainerCallback

from ..methods import Progress
from ..run import build_trainer
from ..training import MethodTrainer, RunArguments, StudentTrainer, TeacherTrainer
from .setup import Case

PARTS = ("data", "views", "forward", "backward", "optimizer", "rest")
_SAMPLE_SECONDS = 0.02


class Plan(NamedTuple):
    """Rounds of ``warmup`` steps that do not count and ``steps`` that do."""

    rounds: int
    warmup: int
    steps: int

    @property
    def total(self) -> int:
        """Steps of one contestant over all rounds."""
        return self.rounds * (self.warmup + self.steps)


class Contestant(Protocol):
    """Somebody who trains a round when told to."""

    def round(self) -> float:
        """Seconds of a step, mean over the timed steps of one round."""


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was asked for; nothing on a CPU."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def timed(step: Callable[[int], Any], plan: Plan, device: torch.device, *, warmup: int | None = None) -> float:
    """Seconds of a step: ``step`` is called with 0, 1, 2, ..., and the first ``warmup`` calls do not count."""
    warmup = plan.warmup if warmup is None else warmup
    for number in range(warmup):
        step(number)
    synchronise(device)
    start = time.perf_counter()
    for number in range(warmup, warmup + plan.steps):
        step(number)
    synchronise(device)
    return (time.perf_counter() - start) / plan.steps


class Rounds(TrainerCallback):
    """Times a training's own steps in rounds; after each ``pause`` is called with its figure, on nobody's time."""

    def __init__(self, plan: Plan, device: torch.device, pause: Callable[[float], None]):
        self.plan, self.device, self.pause = plan, device, pause
        self.seconds: list[float] = []
        self._start = 0.0

    def on_step_end(self, args, state, control, **kwargs) -> None:
        place = (state.global_step - 1) % (self.plan.warmup + self.plan.steps) + 1
        if place == self.plan.warmup:
            synchronise(self.device)
            self._start = time.perf_counter()
        elif place == self.plan.warmup + self.plan.steps:
            synchronise(self.device)
            self.seconds.append((time.perf_counter() - self._start) / self.plan.steps)
            self.pause(self.seconds[-1])


def end_to_end(case: Case, plan: Plan, pause: Callable[[float], None] = lambda seconds: None) -> list[float]:
    """Seconds of a step of the real training, from the image store to the optimizer: one figure a round.

    Args:
        pause: called after each round with its figure; here the others have their turn.
    """
    trainer = build_trainer(case.setup)
    rounds = Rounds(plan, trainer.args.device, pause)
    trainer.add_callback(rounds)
    trainer.train()
    return rounds.seconds


class Ceiling:
    """The same method, optimizer, precision and batch in a plain loop, fed with views that already lie on the device.

    The trainer that is given makes the optimizer, puts the method on the device and is not used for anything else: it
    must be one that has not trained, around a method that has not trained.
    """

    def __init__(self, trainer: MethodTrainer, inputs: Sequence[dict[str, Any]], plan: Plan):
        args: RunArguments = trainer.args
        self.plan, self.inputs, self.device = plan, inputs, args.device
        self.method = trainer.model.train()
        self.optimizer = trainer.create_optimizer()
        self.precision = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=args.fp16)
        self.module: nn.Module = self.method
        if args.world_size > 1:
            ids = None if self.device.type == "cpu" else [self.device.index]
            with warnings.catch_warnings():
                # torch 2.15 renames the option; the new name is unknown to the oldest torch we support.
                warnings.simplefilter("ignore", FutureWarning)
                self.module = DistributedDataParallel(self.method, device_ids=ids, broadcast_buffers=False)
        if args.torch_compile:
            self.module = torch.compile(self.module)

    def round(self) -> float:
        return timed(self.step, self.plan, self.device)

    def step(self, number: int) -> Tensor:
        """One optimizer step; gives its loss."""
        self.method.begin_step(Progress(step=number, epoch=0.0, share=0.0))
        with torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision is not None):
            loss = self.module(**self.inputs[number % len(self.inputs)]).loss
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.method.end_step(Progress(step=number + 1, epoch=0.0, share=0.0))
        self.optimizer.zero_grad()
        return loss.detach()


class Stopwatch:
    """Time by name; what happens inside another name counts for the inner one alone.

    Example:
        >>> watch = Stopwatch(torch.device("cpu"))
        >>> with watch("data"), watch("views"):
        ...     pass
        >>> sorted(watch.lap())
        ['data', 'rest', 'views']
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._spent: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._last = time.perf_counter()

    def _mark(self) -> None:
        synchronise(self.device)
        now = time.perf_counter()
        self._spent[self._open[-1] if self._open else "rest"] += now - self._last
        self._last = now

    def start(self, name: str) -> None:
        self._mark()
        self._open.append(name)

    def stop(self) -> None:
        self._mark()
        self._open.pop()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.start(name)
        try:
            yield
        finally:
            self.stop()

    def around(self, name: str, function: Callable) -> Callable:
        """``function``, with its time on ``name``."""

        def inside(*args: Any, **kwargs: Any) -> Any:
            with self(name):
                return function(*args, **kwargs)

        return inside

    def lap(self) -> dict[str, float]:
        """Seconds since the last lap, by name; what no name had is ``rest``."""
        self._mark()
        spent, self._spent = dict(self._spent), defaultdict(float)
        return spent


class _Split(MethodTrainer):
    """A trainer that keeps a stopwatch: its borders are the Trainer's own places for subclasses."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.watch = Stopwatch(self.args.device)
        self.laps: list[dict[str, float]] = []
        self.views.register_forward_pre_hook(lambda *_: self.watch.start("views"))
        self.views.register_forward_hook(lambda *_: self.watch.stop())
        self.accelerator.backward = self.watch.around("backward", self.accelerator.backward)
        self.model.end_step = self.watch.around("optimizer", self.model.end_step)
        self.add_callback(_OptimizerBorders(self))

    def get_batch_samples(self, *args: Any, **kwargs: Any):
        with self.watch("data"):
            return super().get_batch_samples(*args, **kwargs)

    def compute_loss(self, *args: Any, **kwargs: Any):
        with self.watch("forward"):
            return super().compute_loss(*args, **kwargs)


class _OptimizerBorders(TrainerCallback):
    def __init__(self, trainer: _Split):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.trainer.watch.lap()

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.trainer.watch.start("optimizer")

    def on_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.trainer.watch.stop()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.trainer.laps.append(self.trainer.watch.lap())


class SplitTeacherTrainer(_Split, TeacherTrainer):
    """A teacher's trainer with a stopwatch."""


class SplitStudentTrainer(_Split, StudentTrainer):
    """A student's trainer with a stopwatch."""


class Split(NamedTuple):
    """Seconds of each of ``PARTS`` in a step (medians), and the most bytes that were in use."""

    seconds: dict[str, float]
    peak_bytes: int


def split(case: Case, plan: Plan) -> Split:
    """A training of its own, alone, whose device is waited for at each border between two parts.

    The bytes are those that were allocated on a GPU; on a CPU, those that the process held, libraries included.
    """
    trainer = build_trainer(case.setup, SplitTeacherTrainer, SplitStudentTrainer)
    with peak_memory(trainer.args.device) as peak:
        trainer.train()
    laps = trainer.laps[plan.warmup :]
    seconds = {part: statistics.median(lap.get(part, 0.0) for lap in laps) for part in PARTS}
    return Split(seconds, peak[0])


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[int]]:
    """A list that holds, at the end, the most bytes in use meanwhile: allocated on a GPU, else by the process."""
    gc.collect()  # trainers that are done with stand in cycles, and would count
    found: list[int] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found.append(torch.cuda.max_memory_allocated(device))
        return
    process, done, most = psutil.Process(), threading.Event(), [psutil.Process().memory_info().rss]

    def sample() -> None:
        while not done.wait(_SAMPLE_SECONDS):
            most[0] = max(most[0], process.memory_info().rss)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
        found.append(most[0])
