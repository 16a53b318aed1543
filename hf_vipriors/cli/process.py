"""How a job runs and ends: one line and an exit code for what goes wrong, a log worth reading, all cores."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

import torch
from rich.logging import RichHandler
from rich.text import Text

from ..errors import InputError, one_line
from ..invocation import resume_command
from ..machine import usable_cores
from ..terminal import Console
from ..training.run_folder import outputs
from ..training.signals import Stopped
from .machine_errors import explain_error
from .readers import leaving_with_the_reader

MAIN_SPEAKS_FIRST = 10.0  # seconds
_LONGEST = 1000  # characters of a line of error


def run(job: Callable[[], None], *, resume: Sequence[str] | None = None) -> None:
    """Run a command: a user's mistake becomes one line on stderr and exit code 2.

    A signal becomes one line and exit code 128 + signal. A reader of the output who leaves ends it quietly.

    Of several processes that fail alike the main one speaks. The others let it go first, for a launcher ends all as
    soon as one has ended; what is still there after that has met something of its own, and says so.

    Args:
        job: what the command does.
        resume: the options with which the same command goes on after a signal, or None where it only starts anew.
    """
    configure_logging()
    use_all_cores()
    try:
        with leaving_with_the_reader():
            job()
    except InputError as error:
        # From a data worker the message comes with the worker's traceback: the last line is ours.
        refuse(error.on_command_line.strip().splitlines()[-1].removeprefix("hf_vipriors.errors.InputError: "))
    except Stopped as stop:
        if is_main_process():
            goes_on = resume is not None and (stop.goes_on or not resume)
            line = f"{stop}; go on with: {resume_command(resume)}" if goes_on else str(stop)
            Console(stderr=True, soft_wrap=True).print(line)
        raise SystemExit(stop.code) from None
    except KeyboardInterrupt:
        if is_main_process():
            Console(stderr=True, soft_wrap=True).print("interrupted before its end: give the command again")
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        if (message := explain_error(error, outputs())) is None:
            raise
        refuse(message)


def refuse(message: str) -> NoReturn:
    """Print one line of error and leave with code 2."""
    if len(message) > _LONGEST:  # a value of kilobytes, such as an image where a word was expected
        message = one_line(RuntimeError(message), None)
    if not is_main_process():
        time.sleep(MAIN_SPEAKS_FIRST)
        message = f"process {os.environ['RANK']}: {message}"
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("error:", "bold red"), f" {message}"))
    raise SystemExit(2) from None


def use_all_cores() -> None:
    """Give a lone process on a CPU its cores back: ``accelerate launch`` sets one thread unless it is told."""
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) == 1
    cores = usable_cores()
    if launched and torch.get_num_threads() < cores and not torch.cuda.is_available():
        torch.set_num_threads(cores)


def is_main_process() -> bool:
    """Known before any process group exists: launchers set RANK."""
    return int(os.environ.get("RANK", "0")) == 0


def configure_logging() -> None:
    """Our own lines at INFO on the main process; other libraries only warn."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # tables hold letters that not every terminal has (LANG=C)
        sys.stdout.reconfigure(errors="backslashreplace")
    # In a file nothing has a width: do not break lines at 80.
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 140)
    handler = RichHandler(console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S")
    logger = logging.getLogger("hf_vipriors")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO if is_main_process() else logging.ERROR)
    # Pinning memory without an accelerator is merely useless; torch warns at every loader.
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    # Of palettes with transparency, which is not used, and of spoilt EXIF: it names no image.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    # accelerate's call of DDP, not ours.
    warnings.filterwarnings("ignore", message=".*broadcast_buffers.*", category=FutureWarning)
    if not is_main_process():
        warnings.simplefilter("ignore")  # the main process says the same
