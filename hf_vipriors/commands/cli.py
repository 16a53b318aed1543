"""The command line of every job: recipes, help that teaches, errors of one line, a log worth reading."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import reprlib
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

import torch
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from transformers import HfArgumentParser, TrainingArguments

from ..errors import InputError
from ..training.arguments import unknown_option
from ..training.signals import Stopped
from ..training.yaml_files import yaml_mapping
from .machine_errors import worded

# Of the ~120 options of TrainingArguments, those a newcomer reaches for; --help_all shows the rest.
COMMON = {
    "output_dir", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "learning_rate", "optim", "weight_decay", "warmup_steps", "lr_scheduler_type", "seed", "bf16", "torch_compile",
    "resume_from_checkpoint", "report_to", "eval_steps", "logging_steps", "save_steps", "dataloader_num_workers",
    "use_cpu",
}  # fmt: skip

MAIN_SPEAKS_FIRST = 10.0  # seconds


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


class Parser(HfArgumentParser):
    """``HfArgumentParser`` with ``--config recipe.yaml``, one-line errors and a short ``--help``.

    Args:
        dataclasses: what is parsed, in the order it is returned.
        description: the first lines of ``--help``.
    """

    def __init__(self, dataclass_types: Sequence[type], description: str):
        super().__init__(
            dataclass_types,
            description=description,
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
        self.add_argument("--config", metavar="RECIPE.yaml", help="Recipe of settings; the command line wins.")
        self.add_argument("-h", "--help", action="store_true", help="Show this and exit.")
        self.add_argument("--help_all", action="store_true", help="Show every option of transformers too, and exit.")

    def error(self, message: str) -> None:
        raise InputError(" ".join(message.removeprefix("argument ").split()))

    def known(self) -> list[str]:
        """Names of all options, without dashes."""
        return sorted({f.name for kind in self.dataclass_types for f in dataclasses.fields(kind) if f.init})

    def parse(self, argv: Sequence[str] | None = None) -> tuple[Any, ...]:
        """The dataclasses, filled from the recipe and then from the command line.

        Raises:
            InputError: on an unknown option, a value of the wrong kind, or a recipe that cannot be read.
        """
        argv = list(sys.argv[1:] if argv is None else argv)
        first, _ = self.parse_known_args(argv)
        if first.help or first.help_all:
            self.print_help_and_exit(everything=first.help_all)
        if first.config:
            argv = self.recipe_arguments(first.config) + argv
        _, rest = self.parse_known_args(argv)
        if rest:  # before the settings are checked: a misspelt option may be the one that they lack
            raise unknown_option(rest[0].split("=")[0].lstrip("-"), self.known())
        try:
            *parsed, _ = self.parse_args_into_dataclasses(argv, look_for_args_file=False)
        except InputError:
            raise
        except ValueError as error:  # transformers' own checks of its options
            raise InputError(" ".join(str(error).split())) from None
        except (
            TypeError,
            OSError,
            ArithmeticError,
            ImportError,
        ) as error:  # options that name files or programs
            raise InputError(f"an option cannot work: {type(error).__name__} {' '.join(str(error).split())}") from None
        return tuple(parsed)

    def recipe_arguments(self, path: str) -> list[str]:
        """A recipe as the command line it stands for, so that both go through the same checks."""
        return self.mapping_arguments(yaml_mapping(path, "--config", "'option: value' lines"), f"--config {path}")

    def mapping_arguments(self, settings: dict[str, Any], source: str) -> list[str]:
        """Options and their values as the command line they stand for; ``source`` is named in errors."""
        known, arguments = self.known(), []
        for name, value in settings.items():
            if name not in known:
                raise InputError(f"{source}: {unknown_option(str(name), known)}")
            if value is None:
                continue
            arguments += self._as_words(name, value, source)
        return arguments

    def _as_words(self, name: str, value: Any, source: str) -> list[str]:
        """One option of a recipe as it stands on a command line."""
        several = self._option_string_actions[f"--{name}"].nargs == "+"
        values = value if isinstance(value, list) else [value]
        if len(values) > 1 and not several:
            raise InputError(f"{source}: {name} takes one value, got a list of {len(values)}")
        words = []
        for each in values:
            if isinstance(each, dict) and name in self._mappings:
                words.append(_json(each, f"{source}: {name}"))
            elif isinstance(each, bool):
                words.append(str(each).lower())
            elif isinstance(each, str | int | float):
                words.append(str(each))
            else:
                raise InputError(f"{source}: {name} cannot be a {type(each).__name__}: {reprlib.repr(each)}")
        if len(words) == 1:  # a value which starts with a dash must stay one
            return [f"--{name}={words[0]}"] if words[0].startswith("-") else [f"--{name}", words[0]]
        for word in words:
            if word.startswith("-") and not word[1:].replace(".", "", 1).isdigit():
                raise InputError(f"{source}: {name} cannot hold {word!r}, which looks like an option")
        return [f"--{name}", *words]

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
        self._optionals._group_actions.sort(key=lambda action: action.dest in inherited)
        self.usage = "%(prog)s [--config RECIPE.yaml] [--option value ...]"
        self.print_help()
        if not everything and any(issubclass(kind, TrainingArguments) for kind in self.dataclass_types):
            sys.stdout.write("\nEvery other option of transformers.TrainingArguments works too: see --help_all.\n")
        raise SystemExit(0)


def _json(value: dict, where: str) -> str:
    try:
        return json.dumps(value)
    except TypeError as error:  # YAML has dates, sets and bytes too
        raise InputError(f"{where} is no JSON: {error}") from None


def run(job: Callable[[], None], *, resume: Sequence[str] | None = None) -> None:
    """Run a command: a user's mistake becomes one line on stderr and exit code 2.

    A signal becomes one line and exit code 128 + signal.

    Of several processes that fail alike the main one speaks. The others let it go first, for a launcher ends all as
    soon as one has ended; what is still there after that has met something of its own, and says so.

    Args:
        job: what the command does.
        resume: the options with which the same command goes on after a signal, or None where it only starts anew.
    """
    configure_logging()
    use_all_cores()
    try:
        job()
    except InputError as error:
        # From a data worker the message comes with the worker's traceback: the last line is ours.
        refuse(str(error).strip().splitlines()[-1].removeprefix("hf_vipriors.errors.InputError: "))
    except Stopped as stop:
        if is_main_process():
            goes_on = resume is not None and (stop.goes_on or not resume)
            line = f"{stop}; go on with: {resume_command(sys.orig_argv, resume)}" if goes_on else str(stop)
            Console(stderr=True, soft_wrap=True, highlight=False).print(escape(line))
        raise SystemExit(stop.code) from None
    except KeyboardInterrupt:
        if is_main_process():
            Console(stderr=True, soft_wrap=True, highlight=False).print(
                "interrupted before its end: give the command again"
            )
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        if (message := worded(error)) is None:
            raise
        refuse(message)


def refuse(message: str) -> NoReturn:
    """Print one line of error and leave with code 2."""
    if not is_main_process():
        time.sleep(MAIN_SPEAKS_FIRST)
        message = f"process {os.environ['RANK']}: {message}"
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error:[/] {escape(message)}")
    raise SystemExit(2) from None


def resume_command(argv: Sequence[str], options: Sequence[str]) -> str:
    """The command line of this process with ``options``, under the launcher that it was started by.

    Example:
        >>> started = ["python", "scripts/train_teacher.py", "--resume_from_checkpoint", "latest", "--seed", "1"]
        >>> resume_command(started, ["--resume_from_checkpoint", "true"])
        'python scripts/train_teacher.py --seed 1 --resume_from_checkpoint true'
    """
    words = [word for place, word in enumerate(argv) if (place, word) != (1, "-u")]  # torchrun's own
    for option in options[::2]:
        for spelling in (option, option.replace("_", "-")):
            while spelling in words:
                at = words.index(spelling)
                del words[at : at + 2]
            words = [word for word in words if not word.startswith(f"{spelling}=")]
    processes = os.environ.get("WORLD_SIZE", "1")
    if "ACCELERATE_MIXED_PRECISION" in os.environ or processes != "1":
        words[:2] = ["accelerate", "launch", *(["--num_processes", processes] if processes != "1" else []), words[1]]
    return shlex.join([*words, *options])


def use_all_cores() -> None:
    """Give a lone process on a CPU its cores back: ``accelerate launch`` sets one thread unless it is told."""
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) == 1
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    if launched and torch.get_num_threads() < cores and not torch.cuda.is_available():
        torch.set_num_threads(cores)


def is_main_process() -> bool:
    """Known before any process group exists: launchers set RANK."""
    return int(os.environ.get("RANK", "0")) == 0


def configure_logging() -> None:
    """Our own lines at INFO on the main process; other libraries only warn."""
    # In a file nothing has a width: do not break lines at 80.
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 140)
    handler = RichHandler(console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S")
    logger = logging.getLogger("hf_vipriors")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO if is_main_process() else logging.ERROR)
    # Pinning memory without an accelerator is merely useless; torch warns at every loader.
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    # accelerate's call of DDP, not ours.
    warnings.filterwarnings("ignore", message=".*broadcast_buffers.*", category=FutureWarning)
    if not is_main_process():
        warnings.simplefilter("ignore")  # the main process says the same


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
