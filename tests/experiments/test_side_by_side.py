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
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from hf_vipriors import machine
from hf_vipriors.data.image_decoding import DoesNotFit
from hf_vipriors.errors import InputError, check_range
from hf_vipriors.experiments import side_by_side
from hf_vipriors.experiments.side_by_side import Training, processes_for, train_all
from hf_vipriors.terminal import Console
from hf_vipriors.training.signals import Stopped


def training(title, work, *arguments, after=()):
    return Training(title, ("any",), work, arguments, told=str, after=after)


def run(processes, *trainings):
    """The results, and what was shown."""
    console = Console(file=io.StringIO(), width=100)
    try:
        results = train_all(trainings, processes, console)
    except BaseException as error:
        error.shown = console.file.getvalue()
        raise
    return results, console.file.getvalue()


def test_one_at_a_time_is_done_here_in_the_order_given():
    done = []
    results, shown = run(1, *(training(f"root of {x}", lambda of: done.append(of) or of**0.5, x) for x in (4, 9)))
    assert done == [4, 9] and results == {"root of 4": 2.0, "root of 9": 3.0}
    assert re.search(r"1 of 2 +root of 4 .*\n2\.0\n2 of 2 +root of 9.*\n3\.0", shown)


def test_an_error_in_this_process_begins_no_other():
    done = []
    with pytest.raises(ZeroDivisionError):
        run(1, training("wrong", lambda: 1 / 0), training("never", done.append, 1))
    assert not done


@pytest.mark.parametrize(
    ("trainings", "device", "cores", "processes"),
    [
        (17, "cpu", 2, 2),
        (1, "cpu", 2, 1),
        (17, "cpu", 1, 1),
        (17, "cpu", 64, side_by_side.MOST),
        (3, "cpu", 64, 3),
        (17, "cuda", 64, 1),
    ],
)
def test_how_many_at_once(monkeypatch, trainings, device, cores, processes):
    monkeypatch.setattr(side_by_side, "usable_cores", lambda: cores)
    assert processes_for(trainings, torch.device(device)) == processes
    assert processes_for(trainings, torch.device(device), at_once=3) == min(3, trainings), "as asked for"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes_for(trainings, torch.device(device), at_once=3) == 1, "processes of a launcher train together"


def meeting(folder):
    """Two that wait for one another: with their end, both processes are there, and have nothing to do."""
    os.mkfifo(folder / "meeting")
    ends = {"reads": os.O_RDONLY, "writes": os.O_WRONLY}
    return [training(name, os.open, str(folder / "meeting"), end) for name, end in ends.items()], tuple(ends)


@pytest.mark.slow
def test_processes_share_the_cores_and_some_begin_when_others_have_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "usable_cores", lambda: 2)
    meet, met = meeting(tmp_path)
    results, shown = run(
        2,
        *meet,
        training("asleep", time.sleep, 2, after=met),
        training("end of sleep", time.time, after=("asleep",)),
        training("root", math.sqrt, 16.0, after=met),
        training("now", time.time, after=met),
        training("threads", torch.get_num_threads, after=met),
        training("cores", machine.usable_cores, after=met),
    )
    assert list(results)[-2:] == ["asleep", "end of sleep"], "in the order in which they end"
    assert results["root"] == 4.0 and results["threads"] == 1 and results["end of sleep"] > results["now"]
    assert results["cores"] == max(1, machine.usable_cores() // 2), "its part, for threads that decode"
    assert "8 of 8" in shown and "root: 4.0" in shown and not multiprocessing.active_children()


@pytest.mark.slow
def test_an_error_lets_what_runs_end_and_begins_no_other(tmp_path):
    meet, met = meeting(tmp_path)
    long = training("long", time.sleep, 3, after=met)
    wrong = training("wrong", check_range, 5, "lr", 0, 1, after=met)
    never = training("never", os.mkdir, str(tmp_path / "never"), after=met)
    with pytest.raises(InputError, match="lr is 5: it must be at least 0 and at most 1") as raised:
        run(2, *meet, long, wrong, never)
    assert "error in wrong: --lr is 5" in raised.value.shown and "long: None" in raised.value.shown
    assert not (tmp_path / "never").exists() and not multiprocessing.active_children()


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others(monkeypatch):
    # The pool's thread has long gone on when the second process is there, as on a machine with much else to do.
    spawn = ProcessPoolExecutor._spawn_process
    monkeypatch.setattr(ProcessPoolExecutor, "_spawn_process", lambda pool: (time.sleep(0.5), spawn(pool)))
    with pytest.raises(BrokenProcessPool) as raised:
        run(2, training("asleep", time.sleep, 120), training("killed", os._exit, 9))
    assert "asleep" not in raised.value.shown, "nobody waited for it"
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("error", [Stopped(signal.SIGTERM, "at step 3", goes_on=False), DoesNotFit(0.0, 9e9)])
def test_an_error_that_cannot_be_sent_is_told_in_words(error):
    with pytest.raises(RuntimeError, match=f"{type(error).__name__}: "):
        side_by_side._check_travels(error)
    side_by_side._check_travels(InputError("--lr"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_the_one_that_began_them(tmp_path, number):
    script = tmp_path / "asleep.py"
    script.write_text(
        "import os, time\n"
        "from tqdm.auto import tqdm\n"
        "from hf_vipriors.cli import process\n"
        "from hf_vipriors.experiments.side_by_side import Training, train_all\n"
        "from hf_vipriors.terminal import Console\n"
        "if __name__ == '__main__':\n"
        "    bar = Training('bar', ('bar',), tqdm.write, ('', None, ''), str)\n"
        "    who = Training('who', ('who',), os.getpid, (), str, after=('bar',))\n"
        "    asleep = Training('asleep', ('asleep',), time.sleep, (600,), str)\n"
        "    process.run(lambda: train_all([bar, who, asleep], 2, Console()))\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        pid = next(int(found[1]) for line in running.stdout if (found := re.search(r"who: (\d+)", line)))
        running.send_signal(number)
        said = running.stderr.read()
    assert running.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert number == signal.SIGKILL or said == "ended by SIGTERM, and what was training with it\n"
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
