"""Trainings at the same time, each in a process of its own with its share of the cores.

A small network does not keep two cores busy: a step on 25 small images takes as long on two threads as on one. Two
such trainings side by side, of one thread each, take a tenth longer than either alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from logging.handlers import QueueHandler, QueueListener
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from ..cli.process import configure_logging
from ..errors import one_line
from ..machine import usable_cores
from .progress import Bar, Display, Kind, StepBar

AT_ONCE = "Trainings at the same time; not given: one a core, four at most, and one on an accelerator."
MOST = 4  # at once: each has the libraries and its images in memory


@dataclass(frozen=True)
class Training:
    """One of several trainings, of which some begin from others.

    Attributes:
        title: its name, which no other has.
        kind: see :data:`.progress.Kind`.
        work: what is done, with ``arguments``; these and the result must be picklable.
        told: what is said of the result in one line; empty: nothing, beside its own lines.
        after: titles of those that must have ended.
    """

    title: str
    kind: Kind
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    told: Callable[[Any], str]
    after: tuple[str, ...] = ()


def processes_for(trainings: int, device: torch.device) -> int:
    """How many trainings to do at once: one on an accelerator, else one a core, four at most."""
    return 1 if device.type != "cpu" else max(1, min(MOST, trainings, usable_cores()))


def train_all(trainings: Sequence[Training], processes: int, display: Display) -> dict[str, Any]:
    """Do all trainings, in this order as far as processes are free, and return their results by title.

    With one process it is this one, and each training has its lines and its bar as if it were alone. An error lets
    those that run come to their end, begins no other, and is raised then; Ctrl-C ends them at once.
    """
    with display:
        if processes > 1:
            with _Processes(processes, display) as others:
                return _side_by_side(trainings, processes, others, display)
        results: dict[str, Any] = {}
        for each in trainings:
            with display.alone(each.title):
                results[each.title] = each.work(*each.arguments)
            if told := each.told(results[each.title]):
                display.console.print(told)
        return results


def _side_by_side(
    trainings: Sequence[Training], processes: int, others: _Processes, display: Display
) -> dict[str, Any]:
    waiting, results, error = list(trainings), dict[str, Any](), None
    running: dict[Future[bytes], Training] = {}
    while (waiting and error is None) or running:
        if error is None:
            ready = [each for each in waiting if all(title in results for title in each.after)]
            for each in ready[: processes - len(running)]:
                waiting.remove(each)
                running[others.submit(each)] = each
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            each = running.pop(future)
            try:
                results[each.title] = pickle.loads(future.result())
            except BrokenProcessPool:
                raise
            except Exception as found:
                error = error or found
                if running:
                    display.console.print(
                        f"error in {each.title}: {one_line(found)}; what still runs is finished first, Ctrl-C ends it"
                    )
            else:
                display.ended(each.title, each.told(results[each.title]))
    if error is not None:
        raise error
    return results


class _Processes:
    """Processes that train, and what they say; a context manager. An exception ends them at once."""

    def __init__(self, count: int, display: Display):
        self.count, self.display = count, display
        self._open = contextlib.ExitStack()

    def __enter__(self) -> _Processes:
        self._open.enter_context(_threads_of_each(max(1, usable_cores() // self.count)))
        context = get_context("spawn")
        messages = context.Queue()
        self._listener = _Listener(messages, self.display.show)
        self._listener.start()
        held, self._leash = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(self.count, context, _begin, (held, messages, self.display.live))
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            self._leash.close()
        self._pool.shutdown(cancel_futures=True)
        if kind is None:  # a process that was ended may have held the queue: nobody waits for that
            self._listener.stop()
        self._open.close()

    def submit(self, training: Training) -> Future[bytes]:
        return self._pool.submit(_work, training.title, training.work, training.arguments)


class _Listener(QueueListener):
    """Hands on what the processes say: lines of the log as if they were of this one, and bars."""

    def __init__(self, messages: Any, show: Callable[[Bar], None]):
        super().__init__(messages, *logging.getLogger("hf_vipriors").handlers)
        self._show = show

    def handle(self, record: logging.LogRecord | Bar) -> None:
        if isinstance(record, Bar):
            self._show(record)
        else:
            super().handle(record)


@contextlib.contextmanager
def _threads_of_each(count: int) -> Iterator[None]:
    """Processes that begin in here have so many threads, in torch as in what scikit-learn uses."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _begin(leash: Connection, messages: Any, live: bool) -> None:
    """In a new process: speak to the one that began it, and end with it."""
    if os.name == "posix":
        os.setpgrp()  # Ctrl-C is for the other to hear
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()
    configure_logging()
    logging.captureWarnings(True)
    for name in ("hf_vipriors", "py.warnings"):
        logging.getLogger(name).handlers = [QueueHandler(messages)]
    _Worker.messages, _Worker.live = messages, live


def _end_with(leash: Connection) -> None:
    """Wait until the other end is closed, be it by whoever holds it or by the end of its process."""
    with contextlib.suppress(EOFError):
        leash.recv()
    os._exit(1)


class _Worker:
    """What :func:`_begin` was given."""

    messages: Any
    live: bool


def _work(title: str, work: Callable[..., Any], arguments: Iterable[Any]) -> bytes:
    """The result as bytes: torch would leave tensors in this process for the other to fetch, and it may have ended."""
    _Worker.messages.put(Bar(title, ""))

    def status(text: str) -> None:
        if _Worker.live:
            _Worker.messages.put(Bar(title, text))

    # Lines of a bar tell of a training that one does not look at alone.
    with contextlib.redirect_stderr(StepBar(sys.stderr, line=lambda text: None, status=status)):
        return pickle.dumps(work(*arguments))
