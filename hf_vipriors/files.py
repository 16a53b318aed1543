"""Files that are there whole or not at all, and files that were written so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import InputError


def write_text(path: Path, text: str | bytes) -> None:
    """Whole or not at all: written beside, then renamed."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    beside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """The same for a value as indented JSON; what JSON does not know is written as text."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def read_json(path: Path) -> Any:
    """What was written so.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())}") from None
