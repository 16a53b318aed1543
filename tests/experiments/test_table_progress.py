"""How long a table takes, and a run's own bar beside the table's."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console
from rich.logging import RichHandler
from tqdm import tqdm

from hf_vipriors.experiments.table_progress import Clock, StepBar, TableProgress
from hf_vipriors.experiments.tables import TableRun

TEACHER = TableRun("teacher", "train_teacher", base="teacher")
CELLS = [TableRun(f"moco-margin{margin}", "train_teacher", base="moco") for margin in (0.0, 0.4)]
STUDENT = TableRun("student", "train_student", base="student")


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


@pytest.fixture
def folder_of(tmp_path):
    folder = tmp_path / "seed0" / "student"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text('{"seconds": 90}')
    return lambda seed, name: tmp_path / f"seed{seed}" / name


def test_finished_cells_tell_how_long_the_rest_takes(folder_of):
    out = io.StringIO()
    cells = [(0, STUDENT), (1, STUDENT), (2, STUDENT)]
    with TableProgress(cells, cells[1:], folder_of, Console(file=out, width=100)) as progress:
        with progress.cell(1, STUDENT):
            assert "2 of 3" in out.getvalue() and "seed 1" in out.getvalue()
            assert "about 3 min 00 s left" in out.getvalue()
        assert progress.done == 2 and len(progress.clock.times) == 2
        with pytest.raises(KeyboardInterrupt), progress.cell(2, STUDENT):
            raise KeyboardInterrupt
        assert progress.done == 2, "a killed run is not finished"


def test_on_a_terminal_the_log_goes_through_the_bars_console(folder_of, monkeypatch):
    out, own = io.StringIO(), Console(file=io.StringIO())
    handler = RichHandler(console=own)
    monkeypatch.setattr(logging.getLogger("hf_vipriors"), "handlers", [handler])
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    console = Console(file=out, force_terminal=True, width=100)
    cells = [(0, STUDENT), (1, STUDENT)]
    with TableProgress(cells, cells[1:], folder_of, console) as progress, progress.cell(1, STUDENT):
        assert handler.console is console
        logging.getLogger("hf_vipriors").warning("said by the run")
    assert handler.console is own
    shown = out.getvalue()
    assert "said by the run" in shown and "1/2" in shown and "left" in shown
