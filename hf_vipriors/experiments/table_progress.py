"""How far a table is: one bar over its cells at the bottom of the terminal, the runs' own lines above it."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Group
from rich.live import Live
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from ..files import read_json
from ..reports.report_text import duration
from ..terminal import Console
from .table_results import own_seconds
from .tables import TableRun

Cells = Sequence[tuple[int, TableRun]]


class Clock:
    """How long cells take, from those that are finished: of the same run, else its matrix, else its job, else all.

    Example:
        >>> clock = Clock()
        >>> clock.add(TableRun("a", "train_student", base="a"), 60.0)
        >>> clock.left([TableRun("a", "train_student", base="a"), TableRun("b", "train_student", base="b")])
        120.0
    """

    def __init__(self) -> None:
        self.times: list[tuple[TableRun, float]] = []

    def add(self, run: TableRun, seconds: float) -> None:
        self.times.append((run, seconds))

    def expected(self, run: TableRun) -> float | None:
        """Seconds that this run should take; None while nothing is finished."""
        likeness = (
            lambda other: other.name == run.name,
            lambda other: other.base == run.base,
            lambda other: other.job == run.job,
            lambda other: True,
        )
        for alike in likeness:
            found = [seconds for other, seconds in self.times if alike(other)]
            if found:
                return sum(found) / len(found)
        return None

    def left(self, runs: Sequence[TableRun]) -> float | None:
        """Seconds that all these should take."""
        expected = [self.expected(run) for run in runs]
        return None if None in expected else float(sum(expected))


class TimeLeft(ProgressColumn):
    """Counts down from what was expected when the cell began."""

    def render(self, task: Task) -> Text:
        expected, since = task.fields["left"], task.fields["since"]
        if expected is None:
            return Text("time left not known yet", style="dim")
        return Text(f"about {duration(max(0.0, expected - (time.perf_counter() - since)))} left", style="cyan")


class StepBar(io.TextIOBase):
    """Stands in for stderr while the table's bar is shown: a run's own bar becomes a line of the display.

    Args:
        stream: the terminal.
        line: gets each whole line.
        status: gets what was last written over with a carriage return: the run's bar.
    """

    def __init__(self, stream: TextIO, line: Callable[[str], None], status: Callable[[str], None]):
        self.stream, self.line, self.status, self.pending = stream, line, status, ""

    @property
    def encoding(self) -> str:
        return self.stream.encoding

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.stream.fileno()

    def write(self, text: str) -> int:
        *lines, rest = (self.pending + text).split("\n")
        for each in lines:
            shown = each.rsplit("\r", 1)[-1]
            if shown.strip():
                self.line(shown)
        if lines or "\r" in rest:
            self.status(rest.rsplit("\r", 1)[-1].strip())
        self.pending = rest.rsplit("\r", 1)[-1]
        return len(text)


class TableProgress:
    """The bar over a table's cells, and one ruled line a cell; a context manager.

    In a file, where nothing can be drawn over, only the lines.

    Args:
        cells: all of the table.
        waiting: those that will be run.
        folder_of: seed and name -> folder; the times of finished runs are read there.
    """

    def __init__(self, cells: Cells, waiting: Cells, folder_of: Callable[[int, str], Path], console: Console):
        self.total, self.waiting, self.console = len(cells), list(waiting), console
        self.clock = Clock()
        for seed, run in cells:
            if (seed, run) not in waiting:
                seconds = own_seconds(run, read_json(folder_of(seed, run.name) / "metrics.json"))
                if seconds is not None:
                    self.clock.add(run, seconds)
        self.live = console.is_terminal and sys.stderr.isatty()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeLeft())
        self.bar = Progress(*columns, console=console)
        self.steps = Text(no_wrap=True, overflow="ellipsis")
        self.task = self.bar.add_task("table", total=self.total, completed=self.done, left=None, since=0.0)
        self._open = contextlib.ExitStack()

    @property
    def done(self) -> int:
        return self.total - len(self.waiting)

    def __enter__(self) -> TableProgress:
        if self.live:
            display = Group(self.steps, self.bar)
            self._open.enter_context(
                Live(display, console=self.console, refresh_per_second=2, redirect_stderr=False, transient=True)
            )
            self._open.enter_context(logs_on(self.console))
            lines = StepBar(sys.stderr, lambda line: self.console.print(Text.from_ansi(line)), self._status)
            self._open.enter_context(contextlib.redirect_stderr(lines))
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def _status(self, text: str) -> None:
        self.steps.plain = text

    @contextlib.contextmanager
    def cell(self, seed: int, run: TableRun) -> Iterator[None]:
        """Around the run of the cell that waits first."""
        left = self.clock.left([each for _, each in self.waiting])
        words = "" if left is None else f", about {duration(left)} left"
        which = "once" if run.once else f"seed {seed}"
        title = Text.assemble((f"{self.done + 1} of {self.total}", "bold"), f"  {run.name}, {which}{words}")
        self.console.rule(title)
        start = time.perf_counter()
        self.bar.update(self.task, completed=self.done, left=left, since=start)
        yield
        self.clock.add(run, time.perf_counter() - start)
        self.waiting.pop(0)
        self.bar.update(self.task, completed=self.done, left=self.clock.left([r for _, r in self.waiting]))


@contextlib.contextmanager
def logs_on(console: Console) -> Iterator[None]:
    """Our log lines through the console that draws the bar, so that neither tears the other."""
    handlers = [each for each in logging.getLogger("hf_vipriors").handlers if isinstance(each, RichHandler)]
    before = [handler.console for handler in handlers]
    for handler in handlers:
        handler.console = console
    try:
        yield
    finally:
        for handler, own in zip(handlers, before, strict=True):
            handler.console = own
