"""How far several trainings are: a bar for each that runs and one over all, at the bottom of the terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TextIO

from rich.console import Group
from rich.live import Live
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from ..reports.report_text import duration
from ..terminal import Console

Kind = tuple[str, ...]
"""What a training is, the most particular name first: those that share a name should take about as long."""


class Clock:
    """How long trainings take, from those that are finished and share the most particular name, else from all.

    Args:
        times: of trainings that are finished.
        weights: name -> how long such trainings take beside others; not given: all as long as one another.

    Example:
        >>> clock = Clock(weights={"teacher": 3.0, "student": 1.0})
        >>> clock.add(("a", "student"), 60.0)
        >>> clock.left([("a", "student"), ("b", "student"), ("teacher",)])
        300.0
    """

    def __init__(self, times: Iterable[tuple[Kind, float]] = (), weights: Mapping[str, float] | None = None) -> None:
        self.times, self.weights = list(times), weights or {}

    def add(self, kind: Kind, seconds: float) -> None:
        self.times.append((kind, seconds))

    def expected(self, kind: Kind) -> float | None:
        """Seconds that such a training should take; None while nothing is finished."""
        for name in kind:
            if found := [seconds for other, seconds in self.times if name in other]:
                return sum(found) / len(found)
        if not self.times:
            return None
        weights = sum(self._weight(other) for other, _ in self.times)
        return sum(seconds for _, seconds in self.times) / weights * self._weight(kind)

    def _weight(self, kind: Kind) -> float:
        return next((self.weights[name] for name in kind if name in self.weights), 1.0)

    def left(self, kinds: Sequence[Kind]) -> float | None:
        """Seconds that all these should take, one after another."""
        expected = [self.expected(kind) for kind in kinds]
        return None if None in expected else float(sum(expected))


class TimeLeft(ProgressColumn):
    """Counts down from what was expected when a training last ended."""

    def render(self, task: Task) -> Text:
        expected, since = task.fields["left"], task.fields["since"]
        if expected is None:
            return Text("time left not known yet", style="dim")
        return Text(f"about {duration(max(0.0, expected - (_now() - since)))} left", style="cyan")


class StepBar(io.TextIOBase):
    """Stands in for stderr while a training runs: its own bar becomes a line of the display.

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


class Bar(NamedTuple):
    """What a training writes over and over: the bar of the one named ``title``; empty before its first step."""

    title: str
    text: str


class Display:
    """The bars; a context manager. In a file, where nothing can be drawn over, only lines.

    Args:
        kinds: title -> kind of each training that is to come.
        processes: that do them.
        console: where it is drawn.
        done: trainings that were finished before.
        clock: what is known of how long trainings take.
    """

    def __init__(
        self, kinds: dict[str, Kind], processes: int, console: Console, *, done: int = 0, clock: Clock | None = None
    ):
        self._waiting, self.processes, self.console = dict(kinds), processes, console
        self.done, self.total = done, done + len(kinds)
        self.live = console.is_terminal and sys.stderr.isatty()
        self.clock = clock or Clock()
        self._since: dict[str, float] = {}
        self._bars: dict[str, str] = {}
        self._lock = threading.Lock()
        self._lines = Text(no_wrap=True, overflow="ellipsis")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeLeft())
        self._all = Progress(*columns, console=console)
        self._task = self._all.add_task("trainings", total=self.total, completed=done, left=self._left(), since=_now())
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Display:
        if self.live:
            shown = Group(self._lines, self._all)
            live = Live(shown, console=self.console, refresh_per_second=4, redirect_stderr=False, transient=True)
            self._open.enter_context(live)
            self._open.enter_context(logs_on(self.console))
        elif self.processes > 1:
            count = f"{self.total} trainings" + (f", {self.done} of them finished before" if self.done else "")
            self.console.print(f"{count}, {self.processes} at a time: a line for each when it ends", soft_wrap=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @contextlib.contextmanager
    def alone(self, title: str) -> Iterator[None]:
        """Around a training in this process: a rule above its own lines."""
        left = self._left()
        words = "" if left is None else f", about {duration(left)} left"
        self.console.rule(Text.assemble((self._which(), "bold"), f"  {title}{words}"), align="left")
        self.show(Bar(title, ""))
        with contextlib.ExitStack() as open_:
            if self.live:
                lines = StepBar(
                    sys.stderr,
                    lambda line: self.console.print(Text.from_ansi(line)),
                    lambda text: self.show(Bar("", text)),
                )
                open_.enter_context(contextlib.redirect_stderr(lines))
            yield
        self._bars.pop("", None)
        self._ended(title)

    def show(self, bar: Bar) -> None:
        """How far a training is; of one that has ended, too late."""
        with self._lock:
            if bar.title in self._waiting:
                self._since.setdefault(bar.title, _now())
            elif bar.title:
                return
            self._bars[bar.title] = bar.text
            self._draw()

    def ended(self, title: str, told: str) -> None:
        """A training in another process has ended, with this result."""
        which = self._which()
        self._ended(title)
        left = self._left()
        words = "" if self.live or not left else f" (about {duration(left)} left)"
        self.console.print(Text.assemble((which, "bold"), f"  {title}: {told}{words}"), soft_wrap=True)

    def _which(self) -> str:
        return f"{self.done + 1} of {self.total}"

    def _ended(self, title: str) -> None:
        with self._lock:  # bars come from another thread
            self.clock.add(self._waiting.pop(title), _now() - self._since.pop(title, _now()))
            self._bars.pop(title, None)
            self.done += 1
            self._all.update(self._task, completed=self.done, left=self._left(), since=_now())
            self._draw()

    def _draw(self) -> None:
        self._lines.plain = "\n".join(f"{title}  {text}".strip() for title, text in self._bars.items())

    def _left(self) -> float | None:
        """Seconds until all are done."""
        left = self.clock.left(list(self._waiting.values()))
        gone = sum(_now() - self._since[title] for title in self._waiting if title in self._since)
        return None if left is None else max(0.0, left - gone) / self.processes


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


def _now() -> float:
    return time.perf_counter()
