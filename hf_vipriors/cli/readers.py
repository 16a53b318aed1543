"""Output that nobody reads on: ``hf-vipriors student --help | head``."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def leaving_with_the_reader() -> Iterator[None]:
    """End a command quietly, with code 1, once whoever reads its output has left, as Rich's console does.

    A pipe of another kind that breaks, such as one to a data worker, is an error as before.
    """
    if sys.stdout is None:  # closed by whoever started this
        yield
        return
    try:
        try:
            yield
        except SystemExit:
            sys.stdout.flush()  # what waits in the buffer would be met by Python at its very end
            raise
        sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_left():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _reader_left() -> bool:
    """Whether standard output is a pipe without a reader."""
    if sys.platform == "win32":  # it has no poll
        return False
    watched = select.poll()
    try:
        watched.register(sys.stdout.fileno(), 0)  # errors are told without being asked for
    except (OSError, ValueError):  # no file at all, as in a notebook
        return False
    return any(event & select.POLLERR for _, event in watched.poll(0))
