"""``hf-vipriors JOB``: one command for every job, each imported only when it is chosen.

Nothing here imports torch, so that ``hf-vipriors --help`` answers at once.
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import nearest
from ..invocation import COMMAND, MODULE, entry_point
from .readers import leaving_with_the_reader


@dataclass(frozen=True)
class Job:
    """A subcommand: the module whose ``main`` runs it, what it does, and options to try."""

    module: str
    about: str
    example: str = ""


# In the order in which a newcomer meets them.
JOBS = {
    "quickstart": Job(
        "experiments.quickstart", "Everything once on the images that ship with the package; seven to ten minutes."
    ),
    "advise": Job("advice.advise", "Look at your images: duplicates, leaks, what to train.", "--data_dir photos"),
    "teacher": Job(
        "cli.teacher",
        "Phase 1: learn from images without labels.",
        "--config image_folder_teacher --data_dir photos",
    ),
    "student": Job(
        "cli.student",
        "Phase 2: a classifier, from a teacher or from labels alone.",
        "--config image_folder_student --data_dir photos --teacher outputs/teacher",
    ),
    "evaluate": Job("scoring.evaluate", "Score finished models.", "--model outputs/student --data_dir photos"),
    "predict": Job(
        "inference.predict",
        "Classify a folder of new images: a table, and sorted copies.",
        "--model outputs/student --data_dir new_photos",
    ),
    "embed": Job("inference.embed", "Features of images as parquet.", "--model outputs/student --data_dir photos"),
    "label-next": Job(
        "inference.label_next",
        "Which images to label next, on a page with keys to label them.",
        "--model outputs/student --data_dir photos/unlabelled",
    ),
    "push": Job("cli.push", "Publish a model with its card.", "--model outputs/student --repo_id me/flowers"),
    "pretrain": Job(
        "cli.pretrain", "A small network without labels: SEED or DoGo.", "--method seed --teacher outputs/teacher"
    ),
    "import": Job(
        "cli.convert",
        "Turn a published checkpoint into a teacher.",
        "--checkpoint moco_v2_800ep.pth.tar --output_dir outputs/moco_v2",
    ),
    "reproduce": Job(
        "experiments.reproduce", "Every run of a table of results, several seeds each.", "--table relatives"
    ),
    "benchmark": Job(
        "benchmark.benchmark", "How close training comes to what this machine can do.", "--image_sizes 32 64"
    ),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``hf-vipriors`` and of ``-m hf_vipriors``."""
    argv = list(sys.argv[1:] if argv is None else argv)
    name, options = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in ("-h", "--help"):
        with leaving_with_the_reader():
            sys.stdout.write(help_text())
    elif name == "--version":
        from .. import __version__

        sys.stdout.write(f"{COMMAND} {__version__}\n")
    elif name not in JOBS:
        sys.stderr.write(f"error: unknown command {name[:80]!r}: {nearest(name[:80], JOBS)}\n")
        raise SystemExit(2)
    else:
        run_job(name, options)


def run_job(name: str, options: Sequence[str]) -> None:
    """Run a job with its options; ``evaluate --advise`` is the older name of ``advise``."""
    if name == "evaluate" and "--advise" in options:
        name, options = "advise", [option for option in options if option != "--advise"]
    try:
        module = importlib.import_module(f"hf_vipriors.{JOBS[name].module}")
    except KeyboardInterrupt:  # libraries take seconds to load
        sys.stderr.write("interrupted before it began\n")
        raise SystemExit(128 + signal.SIGINT) from None
    module.main(options)


def run_script(name: str) -> None:
    """The same for ``scripts/*.py``, with the options of this process.

    Python looks for modules beside a script first, where ``evaluate.py`` would hide the library of that name.
    """
    folder = Path(sys.argv[0]).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != folder]
    run_job(name, sys.argv[1:])


def help_text() -> str:
    """A line for each job, with an example below it."""
    program = f"python -m {MODULE}" if entry_point() == "module" else COMMAND
    lines = [
        "Strong image classifiers from few images: a teacher learns without labels, a student is distilled from it.",
        f"\nusage: {program} COMMAND [--option value ...]\n",
    ]
    for name, job in JOBS.items():
        lines += [f"  {name:11}{job.about}", f"{'':13}{f'{program} {name} {job.example}'.rstrip()}"]
    lines += [
        f"\n{program} COMMAND --help lists the options of a command. --config takes a recipe "
        "that ships with the package\nby its name, or a YAML file of your own. On several GPUs:",
        f"\n  accelerate launch -m {MODULE} teacher --config image_folder_teacher --data_dir photos",
    ]
    return "\n".join(lines) + "\n"
