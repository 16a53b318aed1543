"""Trainings at the same time, each in a process of its own with its share of the cores.

A small network does not keep two cores busy: a step on 25 small images takes as long on two threads as on one. Two
such trainings side by side, of one thread each, take a tenth longer than either alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
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
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

from ..cli.machine_errors import explain_error
from ..cli.process import configure_logging
from ..errors import InputError, one_line
from ..machine import share_with, usable_cores
from ..terminal import Console
from ..training.run_folder import outputs
from ..training.signals import STOPPING, Stopped
from .progress import Bar, Clock, Display, Kind, StepBar

logger = logging.getLogger(__name__)
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


def processes_for(trainings: int, device: torch.device, at_once: int | None = None) -> int:
    """How many trainings to do at once: ``at_once``; else one on an accelerator, and one a core, four at most.

    Processes that a launcher has begun belong to one training.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return 1
    most = at_once or (1 if device.type != "cpu" else min(MOST, usable_cores()))
    return max(1, min(most, trainings))


def train_all(
    trainings: Sequence[Training],
    processes: int,
    console: Console,
    *,
    done: int = 0,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Do all trainings, in this order as far as processes are free, and return their results by title.

    With one process it is this one, and each training has its lines and its bar as if it were alone. An error lets
    those that run come to their end, begins no other, and is raised then; Ctrl-C ends them at once.

    Args:
        trainings: that are to be done.
        processes: that do them.
        console: where they are shown.
        done: trainings that were finished before.
        clock: what is known of how long trainings take.
    """
    kinds = {each.title: each.kind for each in trainings}
    with Display(kinds, processes, console, done=done, clock=clock) as display:
        if processes > 1:
            with _Processes(display) as others:
                return _side_by_side(trainings, others, display)
        results: dict[str, Any] = {}
        for each in trainings:
            with display.alone(each.title):
                results[each.title] = each.work(*each.arguments)
            if told := each.told(results[each.title]):
                display.console.print(told)
        return results


def _side_by_side(trainings: Sequence[Training], others: _Processes, display: Display) -> dict[str, Any]:
    others.begin()
    waiting, results, error = list(trainings), dict[str, Any](), None
    running: dict[Future[bytes], Training] = {}
    while (waiting and error is None) or running:
        if error is None:
            ready = [each for each in waiting if all(title in results for title in each.after)]
            for each in ready[: display.processes - len(running)]:
                waiting.remove(each)
                running[others.submit(each)] = each
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            each = running.pop(future)
            try:
                results[each.title] = pickle.loads(future.result())
                display.ended(each.title, each.told(results[each.title]))
            except BrokenProcessPool:
                raise
            except Exception as found:
                if running or error is not None:
                    ends = "; what still runs is finished first, Ctrl-C ends it" if running else ""
                    display.console.print(f"error in {each.title}: {one_line(found, None)}{ends}", soft_wrap=True)
                error = error or found
    if error is not None:
        raise error
    return results


class _Processes:
    """Processes that train, and what they say; a context manager. An exception or a signal ends them at once."""

    def __init__(self, display: Display):
        self.display = display
        self._open = contextlib.ExitStack()

    def __enter__(self) -> _Processes:
        count = self.display.processes
        self._open.enter_context(_signals_raised())
        self._open.enter_context(_threads_of_each(max(1, usable_cores() // count)))
        context = get_context("spawn")
        messages = context.Queue()
        self._listener = _Listener(messages, self.display.show)
        self._listener.start()
        held, self._leash = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(count, context, _begin, (held, messages, self.display.live, count))
        return self

    def begin(self) -> None:
        """Begin all processes: one with each task but the last, after which the pool watches them all.

        Of one that begins with a training it may not see the end before another training has come to its own.
        """
        for _ in range(self.display.processes + 1):
            self._pool.submit(int)

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
        try:
            if isinstance(record, Bar):
                self._show(record)
            else:
                super().handle(record)
        except Exception:  # or nobody would empty the queue, and the processes wait for that
            logger.exception("what a training said could not be shown")


@contextlib.contextmanager
def _signals_raised() -> Iterator[None]:
    """What ends this process ends as an exception, as Ctrl-C does, for everything to be put in order."""

    def received(number: int, frame: object) -> None:
        name = signal.Signals(number).name
        raise Stopped(signal.Signals(number), f"ended by {name}, and what was training with it", goes_on=False)

    # Of a terminal that is closed not where nohup has it ignored.
    heard = [n for n in STOPPING if n != signal.SIGINT and signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, received) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def _begin(leash: Connection, messages: Any, live: bool, processes: int) -> None:
    """In a new process: speak to the one that began it, and end with it."""
    if os.name == "posix":
        os.setpgrp()  # Ctrl-C is for the other to hear
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()
    configure_logging()
    logging.captureWarnings(True)
    # The root's is for what other libraries warn of; some have a handler of their own.
    for name in ("hf_vipriors", None, "transformers", "datasets", "huggingface_hub"):
        logging.getLogger(name).handlers = [QueueHandler(messages)]
    transformers_logging.disable_progress_bar()
    share_with(processes)
    # Its own is a semaphore, of which Python says that it leaks where a process is ended.
    tqdm.set_lock(threading.RLock())
    _Worker.messages, _Worker.live = messages, live


def _end_with(leash: Connection) -> None:
    """Wait until the other end is closed, be it by whoever holds it or by the end of its process."""
    try:
        leash.recv()
    finally:
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
        try:
            return pickle.dumps(work(*arguments))
        except InputError:
            raise
        except (Exception, Stopped) as error:
            # In words here, where what led to it is known; not every error survives the way to the other process.
            if (message := explain_error(error, outputs())) is not None:
                raise InputError(message) from None
            _check_travels(error)
            raise


def _check_travels(error: BaseException) -> None:
    """Raise another in its place where it cannot be sent: that would break the pool."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        raise RuntimeError(one_line(error, kind=True)) from error
