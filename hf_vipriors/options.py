"""Options: dataclass fields that know their help, the values that are allowed, and whether cards show them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from numbers import Real
from typing import Any, NamedTuple

from .errors import LARGEST, InputError, check_choice, check_range, nearest


@dataclass(frozen=True)
class Default:
    """A value that was not given: what it is, and where it comes from."""

    value: Any
    source: str


class Bounds(NamedTuple):
    """Between what a number must lie, both ends included; ``open_low``: the lower one is not."""

    low: float = -LARGEST
    high: float = LARGEST
    open_low: bool = False


# Cosines over less than this leave no difference but the largest one, and its gradient leaves float32.
TEMPERATURE = Bounds(1e-3, 1e3)
LEARNING_RATE = Bounds(0, 100, open_low=True)
SEED = Bounds(0, 2**32 - 1)  # what numpy takes
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


class Help(str):
    """The help of an option, with what else is known of it.

    ``HfArgumentParser`` passes all metadata of a field on to argparse, which knows none of these; so they go with the
    text, and the dataclasses stay usable with any parser.

    Attributes:
        bounds, choices, on_card: see :func:`option`.
    """

    bounds: Bounds = Bounds()
    choices: Sequence[str] | None = None
    on_card: bool = True


def option(
    default: Any,
    help: str,
    *,
    low: float = -LARGEST,
    high: float = LARGEST,
    open_low: bool = False,
    bounds: Bounds | None = None,
    choices: Sequence[str] | None = None,
    on_card: bool = True,
) -> Any:
    """A dataclass field; lists become factories.

    Args:
        default: its value; None: it follows from other options.
        help: for ``--help``.
        low, high, open_low: :class:`Bounds` of a number, or of each number of a list; or ``bounds``, all at once.
        choices: the words that are allowed.
        on_card: whether a card lists it among the settings of a method that reads it.
    """
    text = Help(help)
    text.bounds, text.choices, text.on_card = bounds or Bounds(low, high, open_low), choices, on_card
    metadata = {"help": text}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def check_options(options: Any, inherited: Mapping[str, Bounds] | None = None) -> None:
    """Hold every option of a dataclass that has a value against its bounds and choices. NaN is never within bounds.

    Args:
        options: a dataclass.
        inherited: bounds of fields of a dataclass above it, whoever declares them again.

    Raises:
        InputError: naming the option, what it is and what it must be.

    Example:
        >>> @dataclass
        ... class Options:
        ...     margin: float | None = option(None, "Margin.", low=0, high=1.99)
        >>> check_options(Options())
        >>> check_options(Options(margin=3.0))
        Traceback (most recent call last):
        ...
        hf_vipriors.errors.InputError: margin is 3: it must be at least 0 and at most 1.99
    """
    for each in fields(options):
        value, text = getattr(options, each.name), each.metadata.get("help")
        known = (inherited or {}).get(each.name)
        bounds = known or (text.bounds if isinstance(text, Help) else Bounds())
        if isinstance(text, Help) and text.choices is not None and value is not None:
            check_choice(value, text.choices, each.name)
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, Real) and not isinstance(number, bool):
                check_range(number, each.name, *bounds[:2], open_low=bounds.open_low)


def with_defaults(options: Any) -> Any:
    """A copy in which every option that has a default has it."""
    found = copy.copy(options)
    for each in fields(found):
        if each.init and each.default is not MISSING:
            setattr(found, each.name, each.default)
        elif each.init and each.default_factory is not MISSING:
            setattr(found, each.name, each.default_factory())
    return found


def parsed_mapping(text: str | dict | None, flag: str) -> dict:
    """A JSON object given on the command line, or the dict a recipe holds."""
    if text is None or isinstance(text, dict):
        return text or {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"--{flag} is not JSON ({error}): write it as '{{\"stem_width\": 8}}'") from None
    if not isinstance(value, dict):
        raise InputError(f"--{flag} must be a JSON object such as '{{\"stem_width\": 8}}', got {text!r}")
    return value


def unknown_option(name: str, known: Iterable[str]) -> InputError:
    """The error for a key or flag that no dataclass has."""
    return InputError(f"unknown option {name[:80]!r}: {nearest(name[:80], known)}")


def parse_time_limit(text: str) -> float:
    """Seconds of a time limit.

    Raises:
        InputError: no time.

    Example:
        >>> parse_time_limit("30m"), parse_time_limit("1h30m"), parse_time_limit("90s")
        (1800.0, 5400.0, 90.0)
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or seconds <= 0:
        raise InputError(f"--time_limit {text!r} is no time: write it as 30m, 1h30m or 90s")
    return seconds
