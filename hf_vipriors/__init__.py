"""Strong image classifiers from few images, natively in the Hugging Face ecosystem."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .invocation import entry_point

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .errors import InputError
    from .hub.native_export import export_native
    from .hub.teachers import load_teacher
    from .methods import METHODS, list_methods
    from .models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
    from .run import train
    from .training import (
        DataArguments,
        PretrainArguments,
        StudentArguments,
        StudentTrainer,
        TeacherArguments,
        TeacherTrainer,
    )
    from .training.load_images import load_images

# Name -> the module that it is imported from when it is first used.
_EXPORTS = {
    **dict.fromkeys(("TeacherTrainer", "StudentTrainer", "TeacherArguments", "PretrainArguments"), "training"),
    **dict.fromkeys(("StudentArguments", "DataArguments"), "training"),
    **dict.fromkeys(("VipriorsModel", "VipriorsForImageClassification", "VipriorsConfig"), "models"),
    **dict.fromkeys(("METHODS", "list_methods"), "methods"),
    "train": "run",
    "load_images": "training.load_images",
    "load_teacher": "hub.teachers",
    "export_native": "hub.native_export",
    "InputError": "errors",
}

__all__ = [
    "DataArguments",
    "InputError",
    "METHODS",
    "PretrainArguments",
    "StudentArguments",
    "StudentTrainer",
    "TeacherArguments",
    "TeacherTrainer",
    "VipriorsConfig",
    "VipriorsForImageClassification",
    "VipriorsModel",
    "export_native",
    "list_methods",
    "load_images",
    "load_teacher",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Registers our models with transformers' Auto classes. Our own commands import what their job needs, and so can answer
# --help before torch is there.
if entry_point() is None:
    from . import models as models
