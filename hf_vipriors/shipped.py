"""Recipes and launcher settings that ship with the package.

A wheel holds them inside the package; in a source checkout, and so in an editable install, they lie in ``scripts/``.
"""

from __future__ import annotations

import os
from pathlib import Path

from .errors import InputError, nearest
from .files import waits_for_ever

_PACKAGE = Path(__file__).parent
_SCRIPTS = _PACKAGE.parent / "scripts"


def recipes() -> Path:
    """The folder of the recipes; ``search/`` and ``tables/`` lie in it."""
    return _first(_PACKAGE / "recipes", _SCRIPTS / "recipes")


def accelerate_config(name: str) -> str:
    """The shortest path of a shipped configuration for ``accelerate launch --config_file``."""
    path = _first(_PACKAGE / "accelerate_configs", _SCRIPTS / "accelerate") / f"{name}.yaml"
    return min(str(path), os.path.relpath(path), key=len)


def find_recipe(name: str, flag: str, *, kind: str = "recipe", folder: Path | None = None) -> Path:
    """The file that a person means by ``name``.

    Args:
        name: a path, which wins where it exists, or the name of a shipped file, with or without ``.yaml``.
        flag: what named it, for messages.
        kind: what it is, for messages.
        folder: of the shipped files; None: :func:`recipes`.

    Raises:
        InputError: neither exists.

    Example:
        >>> find_recipe("image_folder_student", "--config").name
        'image_folder_student.yaml'
        >>> find_recipe("image_folder_studnt", "--config")
        Traceback (most recent call last):
        ...
        hf_vipriors.errors.InputError: config image_folder_studnt: no recipe of this name, neither as a file nor ...
    """
    folder = folder or recipes()
    path, folder_given = Path(name), False
    try:
        if path.is_file() or waits_for_ever(path):  # which the reader refuses
            return path
        parts = path.with_suffix("").parts if path.suffix == ".yaml" else path.parts
        # As the documentation writes it for a checkout; there is no such folder after `pip install`.
        start, parts = (recipes(), parts[2:]) if parts[:2] == ("scripts", "recipes") else (folder, parts)
        shipped = start.joinpath(*parts[:-1], f"{parts[-1]}.yaml") if parts and not path.is_absolute() else path
        if shipped.is_file():
            return shipped
        folder_given = bool(name) and path.is_dir()
    except (OSError, ValueError):  # no name that a file could have
        pass
    if folder_given:
        raise InputError(f"{flag} {name} is a folder: give a YAML file in it")
    known = (each.stem for each in folder.glob("*.yaml"))
    raise InputError(
        f"{flag} {name}: no {kind} of this name, neither as a file nor among those that ship with the package: "
        f"{nearest(path.stem, known)}"
    )


def _first(installed: Path, checkout: Path) -> Path:
    return installed if installed.is_dir() else checkout
