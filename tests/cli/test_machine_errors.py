"""What a machine refuses, in one line; what is a defect keeps its traceback."""

import errno
import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from hf_vipriors.cli.machine_errors import explain_error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.ENOSPC, "No space left on device"), "free some space"),
        (MemoryError(), "per_device_train_batch_size"),
        (BrokenProcessPool("A process was terminated abruptly"), "--at_once 1"),
        (torch.OutOfMemoryError("CUDA out of memory."), "accelerator's memory is full"),
    ],
)
def test_what_a_machine_refuses_in_words(error, words):
    assert words in explain_error(error) and "\n" not in explain_error(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("no"), KeyError("DataLoader worker")])
def test_what_is_a_defect_keeps_its_traceback(error):
    assert explain_error(error) is None


def test_tables_are_printed_on_a_terminal_that_lacks_their_letters():
    program = "from hf_vipriors.cli import process; from rich.console import Console\n"
    program += f"process.run(lambda: Console().print({ascii('Käfer … 7')}))"
    environment = os.environ | {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment)
    assert done.returncode == 0 and done.stdout == b"K\\xe4fer \\u2026 7\n", done
