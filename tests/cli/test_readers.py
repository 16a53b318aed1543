"""Output into a pipe whose reader leaves, as ``head`` does: the command ends without a word."""

import os
import sys

import pytest

from hf_vipriors.cli import main as cli
from hf_vipriors.cli import process, student
from hf_vipriors.terminal import Console

COMMANDS = {
    "all commands": lambda: cli.main(["--help"]),
    "one": lambda: student.main(["--help"]),
    "long": lambda: process.run(lambda: sys.stdout.write("line\n" * 100_000)),
    "short": lambda: process.run(lambda: sys.stdout.write("line\n")),
    "rich": lambda: process.run(lambda: Console().print("line")),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_reader_who_leaves_is_no_error(command, monkeypatch, capfd):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as stop:
            command()
    assert stop.value.code == 1 and capfd.readouterr().err == ""


@pytest.mark.parametrize("captured", ["capfd", "capsys"])  # a file, and what a notebook has
def test_another_pipe_that_breaks_is_one(captured, request):
    request.getfixturevalue(captured)

    def job():
        raise BrokenPipeError("to a worker")

    with pytest.raises(BrokenPipeError, match="to a worker"):
        process.run(job)
