"""Lines in the log: which of them are shown."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(level: int, name: str = "hf_vipriors") -> Iterator[None]:
    """Lines of one logger, our own by default, from this level on only."""
    ours = logging.getLogger(name)
    before = ours.level
    ours.setLevel(level)
    try:
        yield
    finally:
        ours.setLevel(before)
