"""How long a table takes, and a run's own bar beside the table's."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console
from rich.logging import RichHandler
from tqdm import tqdm

from hf_vipriors.experiments import progress
from hf_vipriors.experiments.progress import Bar, Clock, Display, StepBar

TEACHER = ("teacher", "train_teacher")
CELLS = [(f"moco-margin{margin}", "moco", "train_teacher") for margin in (0.0, 0.4)]
STUDENT = ("student", "train_student")


def test_the_likest_run_says_how_long():
    clock = Clock()
    assert clock.expected(STUDENT) is None and clock.left([STUDENT]) is None and clock.left([]) == 0
    clock.add(STUDENT, 10.0)
    assert clock.expected(TEACHER) == 10.0, "of another job, while nothing better is known"
    clock.add(TEACHER, 100.0)
    assert clock.expected(CELLS[0]) == 100.0, "of the same job"
    clock.add(CELLS[1], 40.0)
    assert clock.expected(CELLS[0]) == 40.0, "of the same matrix"
    clock.add(CELLS[0], 20.0)
    assert clock.expected(CELLS[0]) == 20.0, "of the same run with another seed"
    clock.add(CELLS[0], 30.0)
    assert clock.left([CELLS[0], STUDENT]) == 25.0 + 10.0


def test_weights_tell_how_long_others_take_until_one_has_ended():
    clock = Clock(weights={"teacher": 6.0, "student": 2.0})
    clock.add(STUDENT, 10.0)
    assert clock.expected(TEACHER) == 30.0
    clock.add(("probe",), 2.0)
    assert clock.expected(TEACHER) == 6 * 12 / 3, "all that have ended count; a name without a weight counts as 1"
    clock.add(TEACHER, 100.0)
    assert clock.expected(TEACHER) == 100.0 and clock.expected(STUDENT) == 10.0


def test_a_runs_bar_becomes_one_line():
    lines, states = [], []
    bar = StepBar(io.StringIO(), lines.append, states.append)
    with tqdm(total=3, file=bar, mininterval=0, ncols=60) as steps:
        steps.update(2)
        assert "67%" in states[-1]
        steps.write("epoch 1 val 80 %", file=bar)
    assert lines[0] == "epoch 1 val 80 %" and "67%" in lines[-1] and len(lines) == 2
    bar.write("half a ")
    bar.write("line\nrest")
    assert lines[-1] == "half a line" and states[-1] == "rest"


def text():
    return Console(file=io.StringIO(), width=100)


def test_what_was_finished_before_tells_how_long_the_rest_takes():
    console = text()
    kinds = {"student, seed 1": STUDENT, "student, seed 2": STUDENT}
    with Display(kinds, 1, console, done=1, clock=Clock([(STUDENT, 90.0)])) as display:
        with display.alone("student, seed 1"):
            assert "2 of 3  student, seed 1, about 3 min 00 s left" in console.file.getvalue()
        assert display.done == 2 and len(display.clock.times) == 2
        with pytest.raises(KeyboardInterrupt), display.alone("student, seed 2"):
            raise KeyboardInterrupt
        assert display.done == 2, "a killed run is not finished"


def test_the_time_left_is_that_of_what_waits_shared_by_the_processes(monkeypatch):
    now = 100.0
    monkeypatch.setattr(progress, "_now", lambda: now)
    console = text()
    display = Display({f"seed {seed}": STUDENT for seed in range(4)}, 2, console)
    with display:
        assert console.file.getvalue() == "4 trainings, 2 at a time: a line for each when it ends\n"
    display.show(Bar("seed 0", ""))
    display.show(Bar("seed 1", "10 of 60 steps"))
    now = 160.0
    display.ended("seed 0", "test 70 %")
    # Two of 60 seconds wait, and one has done its 60.
    assert console.file.getvalue().splitlines()[1:] == ["1 of 4  seed 0: test 70 % (about 60 s left)"]


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    return Console(file=io.StringIO(), force_terminal=True, width=100)


def test_on_a_terminal_the_log_goes_through_the_bars_console(terminal, monkeypatch):
    own = Console(file=io.StringIO())
    handler = RichHandler(console=own)
    monkeypatch.setattr(logging.getLogger("hf_vipriors"), "handlers", [handler])
    with Display({"seed 1": STUDENT}, 1, terminal, done=1) as display, display.alone("seed 1"):
        assert handler.console is terminal
        logging.getLogger("hf_vipriors").warning("said by the run")
    assert handler.console is own
    shown = terminal.file.getvalue()
    assert "said by the run" in shown and "1/2" in shown and "left" in shown


def test_on_a_terminal_each_of_several_has_its_bar(terminal):
    with Display({"seed 0": STUDENT, "seed 1": STUDENT}, 2, terminal) as display:
        display.show(Bar("seed 0", "40%"))
        display.show(Bar("seed 1", "20%"))
        assert display._lines.plain == "seed 0  40%\nseed 1  20%"
        display.ended("seed 0", "test 70 %")
        display.show(Bar("seed 0", "100%"))
        assert display._lines.plain == "seed 1  20%", "a bar that comes too late is not shown"
    assert "1 of 2" in terminal.file.getvalue() and "seed 0: test 70 %" in terminal.file.getvalue()
