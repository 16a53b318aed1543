"""The one exception a user's mistake raises, one message on one line, and the helper that words suggestions."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable
from numbers import Real


class InputError(ValueError):
    """Something the user gave cannot work. The message is one line: what, where, how to mend it.

    Parameters are written as ``--options`` where an error is raised. Python shows them by their names, as whoever
    calls the package knows them; commands print :attr:`on_command_line` and exit with code 2 before anything is
    written.

    Example:
        >>> error = InputError("no such folder 'photos' (--data_dir): give a folder that holds train/CLASS/*.jpg")
        >>> str(error)
        "no such folder 'photos' (data_dir): give a folder that holds train/CLASS/*.jpg"
        >>> error.on_command_line
        "no such folder 'photos' (--data_dir): give a folder that holds train/CLASS/*.jpg"
    """

    def __str__(self) -> str:
        return re.sub(r"(?<![\w-])--(?=[a-z])", "", self.on_command_line)

    @property
    def on_command_line(self) -> str:
        """The message with ``--options``."""
        return super().__str__()


_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ENCODED = re.compile(r"[A-Za-z0-9+/=]{200,}")  # base64: text and paths have other characters in between
_LONGEST = 1000


def one_line(error: BaseException, limit: int | None = 300, *, kind: bool = False) -> str:
    """The message of ``error`` as one line of text, or the name of its type where it has none.

    White space is folded; terminal colours, long base64 and whatever is beyond the limit are left out.

    Args:
        limit: characters of the message to keep; None: 1000 of start and end, where our own messages say how to mend.
        kind: put the name of the type in front, but of an :class:`InputError`, whose message says enough.

    Example:
        >>> one_line(ValueError("first\\n  \\x1b[96msecond\\x1b[0m"), kind=True)
        'ValueError: first second'
    """
    message = error.on_command_line if isinstance(error, InputError) else str(error)
    text = " ".join(_ENCODED.sub(lambda found: f"{found[0][:20]}...", _COLOURS.sub("", message)).split())
    if limit is not None and len(text) > limit:
        text = text[: limit - 3] + "..."
    elif len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 300]} ... {text[-295:]}"
    name = type(error).__name__
    if not text:
        return name
    return f"{name}: {text}" if kind and not isinstance(error, InputError) else text


def nearest(name: str, choices: Iterable[str], *, limit: int = 3) -> str:
    """Word a suggestion for a misspelt ``name``: the closest ``choices``, or all of them when they are few.

    Example:
        >>> nearest("mocoo", ["moco", "simclr"])
        "did you mean 'moco'?"
        >>> nearest("zzz", ["moco", "simclr"])
        "choose from 'moco', 'simclr'"
    """
    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=limit, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    if len(choices) <= 12:
        return f"choose from {', '.join(map(repr, choices))}"
    return "nothing close to it exists"


def check_choice(value: str, choices: Iterable[str], flag: str) -> None:
    """Refuse a value that is none of ``choices``, naming the flag and the nearest right value.

    Raises:
        InputError: when ``value`` is not among them.
    """
    choices = list(choices)
    if value not in choices:
        raise InputError(f"unknown value {value!r} for --{flag}: {nearest(str(value), choices)}")


LARGEST = 1e9  # of the numbers that an option may have where nothing else is said


def check_range(
    value: float | Real, flag: str, low: float = -LARGEST, high: float = LARGEST, *, open_low: bool = False
) -> None:
    """Refuse a number outside [low, high], or (low, high] with ``open_low``, naming the flag; NaN lies outside.

    Raises:
        InputError: when ``value`` is outside, or no number.
    """
    if not isinstance(value, Real):
        raise InputError(f"--{flag} is {value!r}: it must be a number")
    if not value <= high or (value <= low if open_low else value < low):
        bounds = [] if low == -LARGEST else [f"greater than {low:g}" if open_low else f"at least {low:g}"]
        if high != LARGEST or not value <= high:
            bounds.append(f"at most {high:.10g}")
        shown = f"{value:g}" if isinstance(value, float) else reprlib.repr(value)
        raise InputError(f"--{flag} is {shown}: it must be {' and '.join(bounds)}")
