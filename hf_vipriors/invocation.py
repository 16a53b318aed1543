"""How a person started this process, and how the same person starts another job.

There are three ways in, and messages name the one that was used: the installed command (``hf-vipriors student``), the
module (``python -m hf_vipriors student``, ``accelerate launch -m hf_vipriors student``) and, in a source checkout, the
scripts (``accelerate launch scripts/train_student.py``). A process that was started by something else, such as a
notebook, is told of the installed command.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

# Job -> how its script is started in a source checkout.
SCRIPTS = {
    "quickstart": "accelerate launch scripts/quickstart.py",
    "advise": "python scripts/evaluate.py --advise",
    "teacher": "accelerate launch scripts/train_teacher.py",
    "pretrain": "accelerate launch scripts/pretrain_student.py",
    "student": "accelerate launch scripts/train_student.py",
    "evaluate": "python scripts/evaluate.py",
    "predict": "python -m hf_vipriors predict",
    "embed": "python -m hf_vipriors embed",
    "label-next": "python -m hf_vipriors label-next",
    "push": "python scripts/push_to_hub.py",
    "import": "python -m hf_vipriors import",
    "reproduce": "python scripts/reproduce.py",
    "benchmark": "python scripts/benchmark.py",
}
# What run.json and the tables call the trainings.
TRAININGS = {"train_teacher": "teacher", "pretrain_student": "pretrain", "train_student": "student"}
COMMAND = "hf-vipriors"
MODULE = "hf_vipriors"
_CHECKOUT = Path(__file__).resolve().parents[1]
_OF_SCRIPT = {
    match[1]: job for job, words in SCRIPTS.items() if job != "advise" and (match := re.search(r"/(\w+)\.py", words))
}
_SCRIPT = re.compile(r"(?:(accelerate launch|python|torchrun(?: --?\S+ \d+)*) )?scripts/(\w+)\.py( --advise\b)?")
_RECIPE = re.compile(r"scripts/recipes/(?:\w+/)?(\w+)\.yaml")


def entry_point() -> Literal["command", "module", "script"] | None:
    """Which way this process came in; None: another program than ours imported the package."""
    program = Path(sys.argv[0] if sys.argv else "")
    if program.stem == COMMAND:
        return "command"
    # While Python looks for the module, the name of the program is "-m".
    searched = program.name == "-m" and ("-m", MODULE) in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    if searched or program.parts[-2:] == (MODULE, "__main__.py"):
        return "module"
    # A project of somebody else may have a scripts/evaluate.py too.
    if program.stem in _OF_SCRIPT and program.resolve().parent == _CHECKOUT / "scripts":
        return "script"
    return None


def command(job: str) -> str:
    """How the person who started this process starts ``job``, one of ``SCRIPTS``.

    Example:
        >>> command("student")
        'hf-vipriors student'
    """
    way = entry_point()
    if way == "script":
        return SCRIPTS[job]
    if way == "module":
        launched = job in TRAININGS.values() and _launched()
        return f"{'accelerate launch' if launched else 'python'} -m {MODULE} {job}"
    return f"{COMMAND} {job}"


def this_command() -> str | None:
    """The command of this process without its options, or None where it is not one of ours."""
    job = _job()
    return None if job is None else command(job)


def seconds_since_start() -> float:
    """How long a training has run, imports and a launcher included; 0 in other processes, which may do much else."""
    if _job() not in TRAININGS.values():
        return 0.0
    import psutil  # here: every command loads this file, also to say --help

    process = psutil.Process()
    launcher = process.parent() if _launched() else None
    return time.time() - (launcher or process).create_time()


def _job() -> str | None:
    """What this process was started for, or None where it is no command of ours."""
    way = entry_point()
    if way == "script":
        return _OF_SCRIPT[Path(sys.argv[0]).stem]
    return next((word for word in sys.argv[1:2] if word in SCRIPTS), None) if way is not None else None


def as_typed(text: str) -> str:
    """A text that shows scripts and recipes of a source checkout, in the words of this process.

    Example:
        >>> as_typed("accelerate launch scripts/train_teacher.py --config scripts/recipes/image_folder_teacher.yaml")
        'hf-vipriors teacher --config image_folder_teacher'
        >>> as_typed("torchrun --nproc_per_node 2 scripts/benchmark.py --use_cpu")
        'torchrun --nproc_per_node 2 -m hf_vipriors benchmark --use_cpu'
    """
    if entry_point() == "script":
        return text

    def shown(found: re.Match[str]) -> str:
        launcher, script, advise = found.groups()
        if script not in _OF_SCRIPT:
            return found[0]
        job = "advise" if advise else _OF_SCRIPT[script]
        return f"{launcher} -m {MODULE} {job}" if (launcher or "").startswith("torchrun") else command(job)

    return _RECIPE.sub(r"\1", _SCRIPT.sub(shown, text))


def resume_command(options: Sequence[str], argv: Sequence[str] | None = None) -> str:
    """The command line of this process with ``options``, under the launcher that it was started by.

    Args:
        options: names and values in turn; what ``argv`` says of them is left out.
        argv: the words that Python was started with; None: those of this process.

    Example:
        >>> started = ["python", "scripts/train_teacher.py", "--resume_from_checkpoint", "latest", "--seed", "1"]
        >>> resume_command(["--resume_from_checkpoint", "true"], started)
        'python scripts/train_teacher.py --seed 1 --resume_from_checkpoint true'
        >>> resume_command(["--resume_from_checkpoint", "true"], ["python", "/env/bin/hf-vipriors", "teacher"])
        'hf-vipriors teacher --resume_from_checkpoint true'
    """
    argv = sys.orig_argv if argv is None else argv
    words = [word for place, word in enumerate(argv) if (place, word) != (1, "-u")]  # torchrun's own
    for option in options[::2]:
        for spelling in (option, option.replace("_", "-")):
            while spelling in words:
                at = words.index(spelling)
                del words[at : at + 2]
            words = [word for word in words if not word.startswith(f"{spelling}=")]
    installed = len(words) > 1 and Path(words[1]).stem == COMMAND
    if _launched():
        processes = os.environ.get("WORLD_SIZE", "1")
        program = ["-m", MODULE] if installed else words[1:2]
        words[:2] = ["accelerate", "launch", *(["--num_processes", processes] if processes != "1" else []), *program]
    elif installed:
        words[:2] = [COMMAND]
    return shlex.join([*words, *options])


def _launched() -> bool:
    """Whether accelerate or torchrun started this process, and not the person."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ or os.environ.get("WORLD_SIZE", "1") != "1"


def as_words(settings: Mapping[str, Any]) -> list[str]:
    """Settings as a person would type them on a command line; None is left out.

    Example:
        >>> as_words({"bf16": True, "crop_scale": [0.5, 1.0], "teacher": "-odd", "backbone_args": {"a": 1}})
        ['--bf16', 'true', '--crop_scale', '0.5', '1.0', '--teacher=-odd', '--backbone_args', '{"a": 1}']
    """
    found: list[str] = []
    for name, value in settings.items():
        words = [as_word(each) for each in (value if isinstance(value, list) else [value]) if each is not None]
        if len(words) == 1 and words[0].startswith("-"):  # it must stay a value
            found.append(f"--{name}={words[0]}")
        elif words:
            found += [f"--{name}", *words]
    return found


def as_word(value: Any) -> str:
    """A plain value as it stands on a command line."""
    if isinstance(value, dict):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
