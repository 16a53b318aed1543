"""One entry of a table's YAML that stands for many: ``matrix`` spelt out, cell by cell."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from string import Template
from typing import Any

from ..errors import InputError, nearest

Cell = dict[str, Any]
REFERENCE = re.compile(r"\{([\w.+-]+)\}")
UNFIT = re.compile(r"[^\w.+-]+")


def cells(matrix: Mapping[str, list] | list[Cell] | None, where: str) -> list[Cell]:
    """The cells of a matrix: every combination of its values, or the cells that a list spells out itself.

    Raises:
        InputError: no such matrix; ``where`` is named.

    Example:
        >>> cells({"margin": [0.0, 0.4], "negatives": [128]}, "run moco")
        [{'margin': 0.0, 'negatives': 128}, {'margin': 0.4, 'negatives': 128}]
        >>> cells([{"teacher": "large", "student": "small"}], "run kd")
        [{'teacher': 'large', 'student': 'small'}]
        >>> cells(None, "run scratch")
        [{}]
    """
    if matrix is None:
        return [{}]
    if isinstance(matrix, Mapping) and matrix and all(isinstance(v, list) and v for v in matrix.values()):
        found = [dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())]
    elif isinstance(matrix, list) and matrix and all(isinstance(cell, dict) and cell for cell in matrix):
        found = matrix
    else:
        raise InputError(f"{where} has a matrix that is neither 'axis: [values]' nor a list of cells")
    for axis, value in (item for cell in found for item in cell.items()):
        if not str(axis).isidentifier() or not isinstance(value, str | int | float):
            raise InputError(f"{where}: matrix {axis}: {value!r} is not a number, a word or true/false")
    if len({cell_name("", cell) for cell in found}) < len(found) or len({tuple(cell) for cell in found}) > 1:
        raise InputError(f"{where}: the cells of its matrix must differ, and have the same axes")
    return found


def word(value: Any) -> str:
    """As YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def cell_name(name: str, cell: Cell) -> str:
    """The name of one cell, fit for a folder.

    Example:
        >>> cell_name("moco", {"margin": 0.4, "backbone": "timm/resnet18"})
        'moco-margin0.4-backbonetimm_resnet18'
    """
    return "-".join([name, *(f"{axis}{UNFIT.sub('_', word(value))}" for axis, value in cell.items())])


def fill(value: Any, cell: Cell, where: str) -> Any:
    """``$axis`` replaced by the cell's value: as it is where the text is nothing else, else written into the text.

    Raises:
        InputError: an axis that the cell does not have (``$$`` is a dollar sign).

    Example:
        >>> fill({"margin": "$margin", "note": "margin $margin"}, {"margin": 0.4}, "run moco")
        {'margin': 0.4, 'note': 'margin 0.4'}
    """
    if isinstance(value, dict):
        return {key: fill(item, cell, where) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, cell, where) for item in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    alone = re.fullmatch(r"\$(?:(\w+)|\{(\w+)\})", value)
    try:
        if alone:
            return cell[alone[1] or alone[2]]
        return Template(value).substitute({axis: word(found) for axis, found in cell.items()})
    except KeyError as error:
        known = nearest(str(error.args[0]), cell) if cell else "it has no matrix"
        raise InputError(f"{where}: {value!r} names no axis of its matrix: {known}") from None
    except ValueError:
        raise InputError(f"{where}: {value!r}: write $$ for a dollar sign") from None


def cell_of(name: str, values: Cell, known: Iterable[tuple[str, str, Cell]], where: str) -> str:
    """The run that ``name`` means where these values hold: a run's or a cell's own name, or a whole matrix's.

    Args:
        known: name, name of the whole matrix, and values of each run.

    Raises:
        InputError: no such run, or not one cell of the matrix.
    """
    known = list(known)
    if any(name == own for own, _, _ in known):
        return name
    axes = {axis for _, base, cell in known if base == name for axis in cell}
    if not axes:
        close = nearest(name, {base for _, base, _ in known})
        raise InputError(f"{where}: no run {name!r} is made before it: {close}")
    if not axes <= values.keys():
        missing = ", ".join(sorted(axes - values.keys()))
        raise InputError(f"{where}: {name!r} is a matrix of {missing}: give the same axes, or name a cell of it")
    found = [own for own, base, cell in known if base == name and cell.items() <= values.items()]
    if not found:
        raise InputError(f"{where}: {name!r} has no cell {cell_name('', {a: values[a] for a in sorted(axes)})[1:]}")
    return found[0]


def refer(value: Any, values: Cell, known: Iterable[tuple[str, str, Cell]], where: str) -> Any:
    """``{name}`` in an option made the name of the one run it means."""
    if isinstance(value, list):
        return [refer(item, values, known, where) for item in value]
    if not isinstance(value, str):
        return value
    return REFERENCE.sub(lambda found: f"{{{cell_of(found[1], values, known, where)}}}", value)
