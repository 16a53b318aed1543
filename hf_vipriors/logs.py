"""Our own lines in the log: which of them are shown."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(level: int) -> Iterator[None]:
    """Our own lines from this level on only: what many short trainings would all say stays out of the log."""
    ours = logging.getLogger("hf_vipriors")
    before = ours.level
    ours.setLevel(level)
    try:
        yield
    finally:
        ours.setLevel(before)
