"""Trainings in processes of their own. What they run here needs no images: processes take seconds to begin."""

import io
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from hf_vipriors.errors import InputError, check_range
from hf_vipriors.experiments import side_by_side
from hf_vipriors.experiments.side_by_side import Bar, Display, SideBySide, processes_for
from hf_vipriors.terminal import Console


def text():
    return Console(file=io.StringIO(), width=100)


def test_one_at_a_time_is_done_here_in_the_order_given():
    done, console = [], text()
    with SideBySide(2, 1, console) as work:
        for number in (4, 9):
            found = work.submit(f"root of {number}", lambda of: done.append(of) or of**0.5, number, told=str, kind="")
            assert done[-1] == number and found.result() == number**0.5
    shown = console.file.getvalue()
    assert re.search(r"1 of 2 +root of 4 .*\n2\.0\n2 of 2 +root of 9 .*\n3\.0", shown)


def test_an_error_in_this_process_is_raised_at_once():
    with pytest.raises(ZeroDivisionError), SideBySide(2, 1, text()) as work:
        work.submit("wrong", lambda: 1 / 0, told=str, kind="")


@pytest.mark.parametrize(
    ("trainings", "device", "cores", "processes"),
    [(17, "cpu", 2, 2), (17, "cpu", 1, 1), (17, "cpu", 64, side_by_side.MOST), (3, "cpu", 64, 3), (17, "cuda", 64, 1)],
)
def test_how_many_at_once(monkeypatch, trainings, device, cores, processes):
    monkeypatch.setattr(side_by_side, "usable_cores", lambda: cores)
    assert processes_for(trainings, torch.device(device)) == processes


def test_the_time_left_is_that_of_what_waits_shared_by_the_processes(monkeypatch):
    now = 100.0
    monkeypatch.setattr(side_by_side.time, "perf_counter", lambda: now)
    console = text()
    display = Display(4, 2, console)
    for seed in range(4):
        display.waits(f"seed {seed}", "student")
    display.show(Bar("seed 0", ""))
    display.show(Bar("seed 1", "10 of 60 steps"))
    now = 160.0
    display.ended("seed 0", "test 70 %")
    # Two of 60 seconds wait, and one has done its 60.
    assert console.file.getvalue() == "1 of 4  seed 0: test 70 % (about 60 s left)\n"


@pytest.mark.slow
def test_processes_share_the_cores_and_their_errors_are_raised_here(monkeypatch):
    monkeypatch.setattr(side_by_side, "usable_cores", lambda: 2)
    console, start = text(), time.perf_counter()
    with (
        pytest.raises(InputError, match="lr is 5: it must be at least 0 and at most 1"),
        SideBySide(4, 2, console) as work,
    ):
        root = work.submit("root", math.sqrt, 16.0, told=str, kind="root")
        threads = work.submit("threads", torch.get_num_threads, told=str, kind="threads")
        assert root.result() == 4.0 and threads.result() == 1
        work.submit("asleep", time.sleep, 600, told=str, kind="sleep")
        work.submit("wrong", check_range, 5, "lr", 0, 1, told=str, kind="check").result()
    assert time.perf_counter() - start < 200 and not multiprocessing.active_children(), "none is waited for"
    assert re.search(r"\d of 4 +root: 4\.0", console.file.getvalue())


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others():
    with pytest.raises(BrokenProcessPool), SideBySide(2, 2, text()) as work:
        work.submit("asleep", time.sleep, 600, told=str, kind="")
        work.submit("killed", os._exit, 9, told=str, kind="").result()
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_processes_end_with_the_one_that_began_them(tmp_path):
    script = tmp_path / "asleep.py"
    script.write_text(
        "import os, time\n"
        "from hf_vipriors.experiments.side_by_side import SideBySide\n"
        "from hf_vipriors.terminal import Console\n"
        "if __name__ == '__main__':\n"
        "    with SideBySide(2, 2, Console()) as work:\n"
        "        print(work.submit('who', os.getpid, told=str, kind='').result(), flush=True)\n"
        "        work.submit('asleep', time.sleep, 600, told=str, kind='').result()\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pid = int(re.search(r"who: (\d+)", running.stdout.readline())[1])
        running.send_signal(signal.SIGKILL)
    for _ in range(100):
        if not alive(pid):
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pid} is still there")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
