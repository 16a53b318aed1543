"""The parser of every job: recipes, help that teaches, errors of one line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import reprlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from transformers import HfArgumentParser, TrainingArguments

from ..errors import InputError, one_line
from ..invocation import as_typed, as_word, this_command
from ..options import unknown_option
from ..shipped import find_recipe
from ..training.arguments import ENUMS
from ..yaml_files import yaml_mapping

# Of the ~120 options of TrainingArguments, those a newcomer reaches for; --help_all shows the rest.
COMMON = {
    "output_dir", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "learning_rate", "optim", "weight_decay", "warmup_steps", "lr_scheduler_type", "seed", "bf16", "torch_compile",
    "resume_from_checkpoint", "report_to", "eval_steps", "logging_steps", "save_steps", "dataloader_num_workers",
    "use_cpu",
}  # fmt: skip
# What a newcomer has to decide, at the top of --help.
FIRST = ("data_dir", "labels", "dataset_name", "method", "teacher", "backbone")
_NOT_GIVEN = object()
NULL = "null"  # as YAML has it: takes back what a recipe says
# Options that have the word no, which YAML reads as false.
_NO = {name for name, kind in ENUMS.items() if "no" in {member.value for member in kind}}


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False, []) else super()._get_help_string(action)


class Parser(HfArgumentParser):
    """``HfArgumentParser`` with ``--config recipe.yaml``, one-line errors and a short ``--help``.

    Args:
        dataclasses: what is parsed, in the order it is returned.
        description: the first lines of ``--help``.
    """

    def __init__(self, dataclass_types: Sequence[Any], description: str):
        super().__init__(
            dataclass_types,
            prog=this_command(),
            description=as_typed(description),
            allow_abbrev=False,
            add_help=False,
            formatter_class=lambda prog: Formatter(prog, max_help_position=36, width=110),
        )
        # Options that a recipe may give as a mapping: on the command line they are JSON.
        self._mappings = {
            name
            for kind in dataclass_types
            for name, hint in get_type_hints(kind).items()
            if any((get_origin(part) or part) is dict for part in get_args(hint))
        }
        self.add_argument(
            "--config",
            metavar="RECIPE",
            help="A YAML file, or the name of a shipped recipe; the command line wins, and its null undoes.",
        )
        self.add_argument("-h", "--help", action="store_true", help="Show this and exit.")
        if self._trains():
            about = "Show every option of transformers too, and exit."
            self.add_argument("--help_all", action="store_true", help=about)

    def error(self, message: str) -> None:
        raise InputError(" ".join(message.removeprefix("argument ").split()))

    def _trains(self) -> bool:
        """Whether there are more options than ours."""
        return any(issubclass(kind, TrainingArguments) for kind in self.dataclass_types)

    def known(self) -> list[str]:
        """Names of all options, without dashes."""
        return sorted({f.name for kind in self.dataclass_types for f in dataclasses.fields(kind) if f.init})

    def parse(self, argv: Sequence[str] | None = None, defaults: Mapping[str, Any] | None = None) -> tuple[Any, ...]:
        """The dataclasses, filled from ``defaults``, then the recipe, then the command line.

        Args:
            argv: the command line; None: that of this process.
            defaults: in place of the dataclasses' own, from :meth:`checked` or :meth:`recipe`.

        Raises:
            InputError: on an unknown option, a value of the wrong kind, or a recipe that cannot be read.
        """
        given, rest = self._given(argv)
        if given.pop("help_all", False):
            self.print_help_and_exit(everything=True)
        if given.pop("help", False):
            self.print_help_and_exit(everything=False)
        config = _expanded(given.pop("config", None))
        recipe = self.recipe(config) if config else {}
        if rest:  # before the settings are checked: a misspelt option may be the one that they lack
            raise unknown_option(rest[0].split("=")[0].lstrip("-"), self.known())
        return self._fill({**(defaults or {}), **recipe, **given})

    def given(self, argv: Sequence[str] | None = None) -> set[str]:
        """Names of the options that a command line sets, whatever its recipe holds; None: that of this process."""
        return {name for name, value in self._given(argv)[0].items() if value is not None}

    def _given(self, argv: Sequence[str] | None) -> tuple[dict[str, Any], list[str]]:
        """Options on the command line with their values, and the words that are none."""
        blank = argparse.Namespace(**{action.dest: _NOT_GIVEN for action in self._actions})
        found, rest = self.parse_known_args(sys.argv[1:] if argv is None else argv, blank)
        given = {name: value for name, value in vars(found).items() if value is not _NOT_GIVEN}
        for name, value in given.items():
            if isinstance(value, list) and None in value and len(value) > 1:
                raise InputError(f"--{name}: {NULL} takes back what a recipe says, and stands alone")
        return {name: None if value == [None] else value for name, value in given.items()}, rest

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        return None if arg_string == NULL else super()._get_value(action, arg_string)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if value is not None:
            super()._check_value(action, value)

    def _fill(self, settings: dict[str, Any]) -> tuple[Any, ...]:
        settings = {name: _expanded(value) for name, value in settings.items() if value is not None}
        try:
            return tuple(
                kind(**{f.name: settings[f.name] for f in dataclasses.fields(kind) if f.init and f.name in settings})
                for kind in self.dataclass_types
            )
        except InputError:
            raise
        except ValueError as error:  # transformers' own checks of its options
            raise InputError(one_line(error, None)) from None
        except (TypeError, OSError, ArithmeticError, ImportError) as error:  # options that name files or programs
            raise InputError(f"an option cannot work: {type(error).__name__} {one_line(error, None)}") from None

    def recipe(self, name: str | Path) -> dict[str, Any]:
        """The settings of a recipe, as :meth:`checked` gives them.

        Args:
            name: a YAML file, or the name of a recipe that ships with the package.

        Raises:
            InputError: it does not exist, cannot be read, or has an option or a value that cannot be.
        """
        path = find_recipe(str(name), "--config")
        return self.checked(yaml_mapping(path, "--config", "'option: value' lines"), f"--config {path}")

    def checked(self, settings: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Settings with the types that their options have on the command line.

        None, ``null`` in a file and on the command line, stays: over the settings of a recipe it takes back what that
        says, and leaves the option's own default.

        Args:
            settings: option -> value, as a YAML file or a program has them.
            source: where they are from, for errors.

        Raises:
            InputError: an unknown option, or a value of the wrong kind.
        """
        known = self.known()
        for name in settings:
            if name not in known:
                raise InputError(f"{source}: {unknown_option(str(name), known)}")
        return {name: None if value is None else self._value(name, value, source) for name, value in settings.items()}

    def _value(self, name: str, value: Any, source: str) -> Any:
        action = self._option_string_actions[f"--{name}"]
        values = value if isinstance(value, list) else [value]
        if action.nargs != "+" and len(values) != 1:
            raise InputError(f"{source}: {name} takes one value, got a list of {len(values)}")
        found = [self._single(action, each, source) for each in values]
        if action.nargs != "+":
            return found[0]
        for each in found if len(found) > 1 else []:
            if isinstance(each, str) and each.startswith("-"):  # no command line could repeat it
                raise InputError(f"{source}: {name} cannot hold {each!r}, which looks like an option")
        return found

    def _single(self, action: argparse.Action, value: Any, source: str) -> Any:
        """One value with the type of its option."""
        name = action.dest
        if isinstance(value, dict) and name in self._mappings:
            return _json(value, f"{source}: {name}")
        if not isinstance(value, str | int | float):
            raise InputError(f"{source}: {name} cannot be a {type(value).__name__}: {reprlib.repr(value)}")
        if type(value) is action.type:
            return value
        if value is False and name in _NO:
            value = "no"
        try:
            found = super()._get_value(action, as_word(value))  # a file has null for null
            self._check_value(action, found)
        except argparse.ArgumentError as error:
            raise InputError(f"{source}: {name}: {' '.join(error.message.split())}") from None
        return found

    def print_help_and_exit(self, *, everything: bool) -> None:
        inherited = {f.name for f in dataclasses.fields(TrainingArguments)}
        for action in self._actions:
            own = action.dest not in inherited or action.dest in COMMON
            negation = any(o.startswith("--no_") for o in action.option_strings)
            if not everything and (not own or negation):
                action.help = argparse.SUPPRESS
            if action.nargs != 0 and action.metavar is None:
                action.metavar = "X"  # the option in capitals says nothing twice
            # "--image_size" and "--image-size" are one option: show it once.
            action.option_strings = [o for o in action.option_strings if "-" not in o.lstrip("-")]
        # What is ours first, what every Trainer has last.
        order = {name: place for place, name in enumerate(FIRST)}
        self._optionals._group_actions.sort(
            key=lambda action: (action.dest in inherited, order.get(action.dest, len(order)))
        )
        self.usage = "%(prog)s [--config RECIPE] [--option value ...]"
        self.print_help()
        if not everything and self._trains():
            sys.stdout.write("\nEvery other option of transformers.TrainingArguments works too: see --help_all.\n")
        raise SystemExit(0)


def _expanded(value: Any) -> Any:
    """Home folders in place of ``~``, which a shell leaves in ``--output=~/x.csv`` and which a recipe may hold.

    All paths come in here: libraries differ in whether they expand them.

    Example:
        >>> _expanded(["~ about", "/~/photos", 3])
        ['~ about', '/~/photos', 3]
    """
    if isinstance(value, list):
        return [_expanded(each) for each in value]
    is_path = isinstance(value, str) and value.startswith("~") and (value == "~" or os.sep in value)
    return os.path.expanduser(value) if is_path else value


def _json(value: dict, where: str) -> str:
    try:
        return json.dumps(value)
    except TypeError as error:  # YAML has dates, sets and bytes too
        raise InputError(f"{where} is no JSON: {error}") from None
