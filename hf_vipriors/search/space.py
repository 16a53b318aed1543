"""What a hyperparameter search may change, and between what: a YAML file, read and checked before anything trains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import optuna
from transformers import TrainingArguments

from ..errors import InputError, one_line
from ..options import unknown_option
from ..shipped import find_recipe, recipes
from ..training.run_identity import influences
from ..training.student_arguments import StudentArguments
from ..yaml_files import yaml_mapping

# They say what is compared, or how it is measured: no search may change them.
FIXED = {
    "method", "teacher", "more_teachers", "teacher_revision", "student_init", "crop_pct", "trials", "search_space",
    "settings_of", "corruptions", "per_device_eval_batch_size", "remove_unused_columns", "ddp_broadcast_buffers",
}  # fmt: skip
# Of transformers.TrainingArguments' own options, those that decide how a student is trained.
INHERITED = ("adam_beta1", "adam_beta2", "adam_epsilon", "gradient_accumulation_steps")
BOUNDS = {"low", "high", "log"}


@cache
def searchable() -> dict[str, Any]:
    """Options that a space may name, with their types."""
    kinds = StudentArguments.__mro__[: StudentArguments.__mro__.index(TrainingArguments)]
    names = {name for kind in kinds for name in vars(kind).get("__annotations__", {})} - FIXED
    ours = {name for name in names if influences(name)}
    # A command line gives a network's arguments as JSON, a YAML file as they are.
    hints = get_type_hints(StudentArguments) | {"backbone_args": dict | None}
    return {f.name: hints[f.name] for f in fields(StudentArguments) if f.name in ours or f.name in INHERITED}


@dataclass(frozen=True)
class Dimension:
    """One option of a search: some choices, or a range of numbers.

    Args:
        name: of the option.
        choices: what to choose from; empty with a range.
        low, high: ends of the range, both included.
        log: draw evenly in the logarithm.
        whole: whole numbers only.
    """

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def draw(self, trial: optuna.trial.BaseTrial) -> Any:
        """A value of the option; the same one whenever it is asked for within a trial."""
        if self.choices:
            # Optuna keeps choices that are numbers or words: as JSON, lists and null are words too.
            return self.value(trial.suggest_categorical(self.name, [json.dumps(choice) for choice in self.choices]))
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def value(self, drawn: Any) -> Any:
        """The option's value, of what the study keeps."""
        return json.loads(drawn) if self.choices else drawn

    def kept(self, value: Any) -> Any:
        """What the study keeps of a value; None where it is none of the choices or out of range."""
        if self.choices:
            return next((json.dumps(choice) for choice in self.choices if choice == value), None)
        return value if value is not None and self.low <= value <= self.high else None

    def extremes(self) -> tuple[Any, ...]:
        """All choices, or the ends: where these are right, so is what lies between."""
        if self.choices:
            return self.choices
        return tuple(int(end) if self.whole else end for end in (self.low, self.high))

    def describe(self) -> Any:
        """As it stands in the YAML file."""
        return list(self.choices) or {"low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True)
class SearchSpace:
    """The options that a search draws.

    Args:
        dimensions: one for each option.

    Example:
        >>> space = SearchSpace.of({"learning_rate": {"low": 0.01, "high": 0.2, "log": True}, "mixup": [0, 0.3]})
        >>> space.draw(optuna.trial.FixedTrial({"learning_rate": 0.05, "mixup": "0.3"}))
        {'learning_rate': 0.05, 'mixup': 0.3}
    """

    dimensions: tuple[Dimension, ...]

    @classmethod
    def read(cls, path: str) -> SearchSpace:
        """The space in a YAML file, or the shipped one of that name.

        Raises:
            InputError: a file that cannot be read, an unknown option, an empty range, a value of the wrong kind.
        """
        holds = "'option: [choices]' or 'option: {low: , high: }' lines"
        file = find_recipe(path, "--search_space", kind="search space", folder=recipes() / "search")
        return cls.of(yaml_mapping(file, "--search_space", holds), f"--search_space {path}")

    @classmethod
    def of(cls, options: dict[str, Any], source: str = "space") -> SearchSpace:
        """The space that a mapping describes; ``source`` is named in errors."""
        check_searchable(list(options), source)
        return cls(tuple(_dimension(name, given, f"{source}: {name}") for name, given in options.items()))

    @property
    def names(self) -> list[str]:
        return [dimension.name for dimension in self.dimensions]

    def draw(self, trial: optuna.trial.BaseTrial) -> dict[str, Any]:
        """The settings of a trial."""
        return {dimension.name: dimension.draw(trial) for dimension in self.dimensions}

    def settings(self, drawn: dict[str, Any]) -> dict[str, Any]:
        """The settings of a trial that the study has kept."""
        return {dimension.name: dimension.value(drawn[dimension.name]) for dimension in self.dimensions}

    def kept(self, settings: dict[str, Any]) -> dict[str, Any]:
        """What the study keeps of ``settings``, as far as they lie within the space.

        Example:
            >>> SearchSpace.of({"mixup": [0, 0.3], "weight_decay": {"low": 0.01, "high": 0.1}}).kept(
            ...     {"mixup": 0.3, "weight_decay": 0.0, "seed": 1})
            {'mixup': '0.3'}
        """
        found = {dimension.name: dimension.kept(settings[dimension.name]) for dimension in self.dimensions}
        return {name: value for name, value in found.items() if value is not None}

    def describe(self) -> dict[str, Any]:
        """As it stands in the YAML file."""
        return {dimension.name: dimension.describe() for dimension in self.dimensions}


def check_searchable(names: Sequence[str], source: str) -> None:
    """Refuse options that do not exist or that no search may change.

    Raises:
        InputError: naming the option.
    """
    every = {f.name for f in fields(StudentArguments)}
    for name in names:
        if name not in every:
            raise InputError(f"{source}: {unknown_option(str(name), list(searchable()))}")
        if name not in searchable():
            raise InputError(
                f"{source}: {name} decides what is compared or shown, not how it is trained: leave it out"
            )
    if {"learning_rate", "base_learning_rate"} <= set(names):
        raise InputError(f"{source}: learning_rate and base_learning_rate are one thing: name one of them")


def tuned_arguments(given: StudentArguments, settings: dict[str, Any]) -> StudentArguments:
    """The arguments of a run with some of them replaced, checked as if they had been given.

    Args:
        given: the run's arguments. Not changed.
        settings: option -> value.

    Raises:
        InputError: a value out of range, or one that does not go with the rest.

    Example:
        >>> given = StudentArguments(method="supervised", learning_rate=0.05, use_cpu=True)
        >>> tuned_arguments(given, {"mixup": 0.3}).mixup
        0.3
    """
    changes = dict(settings)
    if "base_learning_rate" in settings:
        changes["learning_rate"] = None  # else the one given would win over the one drawn
    try:
        return replace(given, **changes)
    except InputError:
        raise
    except ValueError as error:  # transformers' own checks
        raise InputError(one_line(error, None)) from None


def _dimension(name: str, given: Any, where: str) -> Dimension:
    hint = searchable()[name]
    if isinstance(given, list):
        choices = tuple(_value(choice, hint, where) for choice in given)
        if not choices or len({json.dumps(choice) for choice in choices}) < len(choices):
            raise InputError(f"{where}: {given} must be choices that differ")
        return Dimension(name, choices)
    if not isinstance(given, dict):
        raise InputError(f"{where}: {given!r} is neither [choices] nor {{low: , high: , log: }}")
    if not {"low", "high"} <= given.keys() <= BOUNDS or not isinstance(given.get("log", False), bool):
        raise InputError(f"{where}: a range has low and high, and log: true or false; got {given}")
    kind = _kind(hint)
    if kind not in (int, float):
        raise InputError(f"{where}: no number, so it has no range: give [choices]")
    low, high = (_value(given[end], kind, where) for end in ("low", "high"))
    if not low < high:
        raise InputError(f"{where}: the range from {low:g} to {high:g} is empty")
    log = given.get("log", False)
    if log and low <= 0:
        raise InputError(f"{where}: with log the range must start above 0, got {low:g}")
    return Dimension(name, low=low, high=high, log=log, whole=kind is int)


def _kind(hint: Any) -> Any:
    """``float | None`` -> ``float``."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (kind for kind in get_args(hint) if kind is not NoneType)
    return hint


def _value(raw: Any, hint: Any, where: str) -> Any:
    """``raw`` as the option's type wants it: YAML reads 1e-4 as a word, and 0 as a whole number."""
    kind = _kind(hint)
    try:
        if raw is None and NoneType in get_args(hint):
            return None
        if get_origin(kind) is list and isinstance(raw, list):
            (inner,) = get_args(kind)
            return [_value(one, inner, where) for one in raw]
        if kind in (int, float) and not isinstance(raw, bool):
            number = float(raw)
            if kind is float:
                return number
            if number.is_integer():
                return int(number)
        if kind in (bool, str, dict) and isinstance(raw, kind):
            return raw
    except (TypeError, ValueError):
        pass
    raise InputError(f"{where}: {raw!r} is no value of this option")
