"""Rows that are written as they come, as CSV, JSON lines or parquet, and are there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ..errors import InputError
from ..files import check_new, replacing

SUFFIXES = (".csv", ".jsonl", ".parquet")
_ROWS = 1024  # written at once


def check_output(path: str | Path, suffixes: tuple[str, ...] = SUFFIXES) -> None:
    """Before any work: a table of this name can be written.

    Raises:
        InputError: the suffix is none of ``suffixes``, there is such a file already, or none can be made.
    """
    if Path(path).suffix not in suffixes:
        raise InputError(f"--output {path}: give a name that ends in {' or '.join(suffixes)}")
    check_new(path, "output")


def write_table(path: str | Path, schema: pa.Schema, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows of any number; its suffix says as what.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_table(f"{folder}/two.csv", pa.schema({"path": pa.string()}), [{"path": 'b"c'}])
        ...     print(Path(f"{folder}/two.csv").read_text())
        "path"
        "b""c"
        <BLANKLINE>
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remaining = iter(rows)
    with replacing(path) as part, _writer(part, path.suffix, schema) as write:
        while some := list(islice(remaining, _ROWS)):
            write(pa.Table.from_pylist(some, schema=schema))


@contextmanager
def _writer(part: Path, suffix: str, schema: pa.Schema) -> Iterator[Callable[[pa.Table], Any]]:
    if suffix == ".jsonl":
        with open(part, "w", encoding="utf-8") as file:
            yield lambda table: file.writelines(
                json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist()
            )
    else:
        kind = pyarrow.csv.CSVWriter if suffix == ".csv" else pyarrow.parquet.ParquetWriter
        with open(part, "wb") as stream, kind(stream, schema) as writer:
            yield writer.write_table
