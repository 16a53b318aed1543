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
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from logging.handlers import QueueHandler, QueueListener
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeVar

import torch
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from ..cli.process import configure_logging
from ..machine import usable_cores
from ..reports.report_text import duration
from ..terminal import Console
from .table_progress import Clock, StepBar, TimeLeft, logs_on
from .tables import TableRun

Result = TypeVar("Result")
MOST = 4  # at once: each has the libraries and its images in memory


class Bar(NamedTuple):
    """What a process writes over and over: the bar of the training named ``title``; empty at its end."""

    title: str
    text: str


class SideBySide:
    """Runs trainings as processes become free, and shows how far they are; a context manager.

    With one process at a time it is this one, and each training has its own bar as if it were alone. Whatever is
    raised in a training is raised by its ``result()``; leaving the context by an exception ends the processes at once.

    Args:
        total: trainings that there will be.
        processes: at once, see :func:`processes_for`.
        console: where lines and bars go; only lines where it is no terminal.
    """

    def __init__(self, total: int, processes: int, console: Console):
        self.total, self.processes, self.console = total, processes, console
        self.begun = 0
        self._open = contextlib.ExitStack()

    def __enter__(self) -> SideBySide:
        if self.processes > 1:
            self._display = self._open.enter_context(Display(self.total, self.processes, self.console))
            self._open.enter_context(_threads_of_each(max(1, usable_cores() // self.processes)))
            context = get_context("spawn")
            messages = context.Queue()
            self._listener = _Listener(messages, self._display.show)
            self._listener.start()
            held, self._leash = context.Pipe(duplex=False)
            begin = (held, messages, self._display.live)
            self._executor = ProcessPoolExecutor(self.processes, context, _begin, begin)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self.processes > 1:
            if kind is not None:
                self._leash.close()
            self._executor.shutdown(cancel_futures=True)
            if kind is None:  # a process that was ended may have held the queue: nobody waits for that
                self._listener.stop()
        self._open.close()

    def submit(
        self, title: str, work: Callable[..., Result], *arguments: Any, told: Callable[[Result], str], kind: str
    ) -> Future[Result]:
        """Have ``work(*arguments)`` done, which must be picklable, and so must its result.

        Args:
            title: of the training, for people.
            told: what is said of its result.
            kind: those of one kind should take equally long.
        """
        self.begun += 1
        if self.processes == 1:
            return self._here(title, work, arguments, told)
        result: Future[Result] = Future()
        self._display.waits(title, kind)

        def ended(future: Future[bytes]) -> None:
            try:
                found = pickle.loads(future.result())
                self._display.ended(title, told(found))
            except BaseException as error:  # nobody else hears of it
                result.set_exception(error)
            else:
                result.set_result(found)

        self._executor.submit(_work, title, work, arguments).add_done_callback(ended)
        return result

    def _here(self, title: str, work: Callable[..., Result], arguments: tuple, told: Callable) -> Future[Result]:
        self.console.rule(Text.assemble((f"{self.begun} of {self.total}", "bold"), f"  {title}"), align="left")
        result: Future[Result] = Future()
        result.set_result(work(*arguments))
        self.console.print(told(result.result()))
        return result


class Display:
    """A bar for each training that runs and one over all of them; a context manager.

    Args:
        total: trainings that there will be.
        processes: that share them.
        console: where it is drawn, if that is a terminal; else each training leaves a line.
    """

    def __init__(self, total: int, processes: int, console: Console):
        self.total, self.processes, self.console = total, processes, console
        self.live = console.is_terminal and sys.stderr.isatty()
        self._clock = Clock()
        self._waiting: dict[str, TableRun] = {}  # by title, those that run included
        self._since: dict[str, float] = {}
        self._bars: dict[str, str] = {}
        self._done = 0
        self._lines = Text(no_wrap=True, overflow="ellipsis")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeLeft())
        self._all = Progress(*columns, console=console)
        self._task = self._all.add_task("trainings", total=total, left=None, since=0.0)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Display:
        if self.live:
            shown = Group(self._lines, self._all)
            self._open.enter_context(Live(shown, console=self.console, refresh_per_second=4, transient=True))
            self._open.enter_context(logs_on(self.console))
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def waits(self, title: str, kind: str) -> None:
        """A training that is to come."""
        self._waiting[title] = TableRun(kind, "train", base=kind)

    def show(self, bar: Bar) -> None:
        """What a process says of the training that it does."""
        self._since.setdefault(bar.title, time.perf_counter())
        self._bars[bar.title] = bar.text
        self._draw()

    def ended(self, title: str, told: str) -> None:
        """A training has ended, with this result."""
        self._clock.add(self._waiting.pop(title), time.perf_counter() - self._since.pop(title, time.perf_counter()))
        self._bars.pop(title, None)
        self._done += 1
        left = self._left()
        words = "" if self.live or not left else f" (about {duration(left)} left)"
        self.console.print(Text.assemble((f"{self._done} of {self.total}", "bold"), f"  {title}: {told}{words}"))
        self._all.update(self._task, completed=self._done, left=left, since=time.perf_counter())
        self._draw()

    def _draw(self) -> None:
        self._lines.plain = "\n".join(f"{title}  {text}" for title, text in self._bars.items())

    def _left(self) -> float | None:
        """Seconds until all are done, of those that have been announced."""
        left = self._clock.left(list(self._waiting.values()))
        now = time.perf_counter()
        return (
            None
            if left is None
            else max(0.0, left - sum(now - each for each in self._since.values())) / self.processes
        )


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


def processes_for(trainings: int, device: torch.device) -> int:
    """How many trainings to do at once: one on an accelerator, else one a core, four at most."""
    return 1 if device.type != "cpu" else min(MOST, trainings, usable_cores())


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


def _work(title: str, work: Callable[..., Any], arguments: tuple) -> bytes:
    """The result as bytes: torch would leave tensors in this process for the other to fetch, and it may have ended."""
    _Worker.messages.put(Bar(title, ""))

    def status(text: str) -> None:
        if _Worker.live:
            _Worker.messages.put(Bar(title, text))

    # Lines of a bar tell of a training that one does not look at alone.
    with contextlib.redirect_stderr(StepBar(sys.stderr, line=lambda text: None, status=status)):
        return pickle.dumps(work(*arguments))
