"""Methods: one training step of one paper each, as modules, with all that the package knows of them in their class.

A method comes in by its file in this folder and one line in :data:`METHODS`.
"""

from ..errors import InputError, nearest
from .base import Material, Method, MethodOutput, Progress, card_options, method_options
from .byol import Byol
from .crd import Crd
from .dogo import DoGo
from .fitnet import FitNet
from .fixmatch import FixMatch
from .frozen_teacher import FrozenTeacher, embedding_dim
from .kd import KnowledgeDistillation
from .key_queue import KeyQueue, resolve_queue_length
from .moco import MoCo
from .overhaul import OverhaulDistillation
from .seed import Seed
from .simclr import SimCLR
from .sskd import Sskd, SskdPretext, self_supervision_head
from .supervised import Supervised


def registered(*methods: type[Method]) -> dict[str, type[Method]]:
    """Methods by name, each with all that the rest of the package reads of its class.

    Raises:
        TypeError: one lacks some of it, or has the name of another one, which it would replace without a word.

    Example:
        >>> registered(MoCo, SimCLR, SimCLR)
        Traceback (most recent call last):
        ...
        TypeError: SimCLR has the name of SimCLR, 'simclr': give it one of its own
    """
    found: dict[str, type[Method]] = {}
    for method in methods:
        defined = {name for kind in method.__mro__ for name in vars(kind)}
        if missing := [name for name in ("name", "job", "summary", "options") if name not in defined]:
            raise TypeError(f"{method.__name__} must define {', '.join(missing)}")
        if method.name in found:
            other = found[method.name].__name__
            raise TypeError(f"{method.__name__} has the name of {other}, {method.name!r}: give it one of its own")
        found[method.name] = method
    return found


METHODS = registered(
    MoCo,
    SimCLR,
    Byol,
    Seed,
    DoGo,
    OverhaulDistillation,
    Supervised,
    KnowledgeDistillation,
    FitNet,
    Crd,
    Sskd,
    FixMatch,
)


def methods_of(job: str) -> dict[str, type[Method]]:
    """The methods of a job, by name.

    Example:
        >>> list(methods_of("pretrain"))
        ['seed', 'dogo']
    """
    return {name: method for name, method in METHODS.items() if method.job == job}


def list_methods(job: str | None = None) -> list[str]:
    """Names of all methods, or of those of one job, as ``--method`` takes them.

    Args:
        job: ``"teacher"`` (phase 1), ``"pretrain"`` (a student without labels) or ``"student"`` (phase 2); None: all.

    Raises:
        InputError: no such job.

    Example:
        >>> list_methods("teacher")
        ['moco', 'simclr', 'byol']
    """
    if job is None:
        return list(METHODS)
    if not (found := list(methods_of(job))):
        raise InputError(f"no job {job!r}: {nearest(str(job), {method.job for method in METHODS.values()})}")
    return found


def option_groups(job: str) -> tuple[type, ...]:
    """The option dataclasses of a job's methods, to compose its arguments of; none that another one inherits from."""
    kinds = list(dict.fromkeys(method.options for method in methods_of(job).values()))
    return tuple(kind for kind in kinds if not any(kind in other.__mro__[1:] for other in kinds))


def method_help(job: str) -> str:
    """What ``--method`` may be, each with a phrase, for ``--help``.

    Example:
        >>> method_help("pretrain")
        "seed (a frozen teacher's similarities) or dogo (two peers teach each other)."
    """
    phrases = [f"{name} ({method.summary})" for name, method in methods_of(job).items()]
    return " or ".join(part for part in (", ".join(phrases[:-1]), phrases[-1]) if part) + "."


__all__ = [
    "METHODS",
    "Byol",
    "Crd",
    "DoGo",
    "FitNet",
    "FixMatch",
    "FrozenTeacher",
    "KeyQueue",
    "KnowledgeDistillation",
    "Material",
    "Method",
    "MethodOutput",
    "MoCo",
    "OverhaulDistillation",
    "Progress",
    "Seed",
    "SimCLR",
    "Sskd",
    "SskdPretext",
    "Supervised",
    "card_options",
    "embedding_dim",
    "list_methods",
    "method_help",
    "method_options",
    "methods_of",
    "option_groups",
    "registered",
    "resolve_queue_length",
    "self_supervision_head",
]
