"""Read a table of labels (.csv, .tsv, .txt, .jsonl, .parquet) as spreadsheets and programs write them."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from ..errors import InputError, one_line
from .columns import LABEL_NAMES, some

PATH_NAMES = (
    *("file_name", "filename", "file", "path", "file_path", "filepath", "image", "image_name", "imagename"),
    *("image_path", "image_file_name", "img", "picture", "photo", "image_id", "id"),
)
SPLIT_NAMES = ("subset", "set", "partition")  # they may mean something else: then their values are no splits
_KNOWN = {*PATH_NAMES, *LABEL_NAMES, "split", *SPLIT_NAMES}
_LINE_END = re.compile(r"\r\n|\r|\n")
_SEPARATOR = re.compile(r"sep=(.)", re.IGNORECASE)  # a first line that Excel writes and reads
_WHOLE = r"^(-?(0|[1-9][0-9]{0,17})(\.0)?)?$"  # as pandas writes integers of which some are missing
# Of a text that is not UTF-8; what UTF-32 begins with begins like UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A file with labels and what it holds; the files it names are relative to ``base``."""

    path: Path
    base: Path
    columns: pa.Table

    def __str__(self) -> str:
        return repr(str(self.path))


def read_table(path: Path, base: Path) -> Table:
    """Read a table, whatever its format.

    Raises:
        InputError: it is not there, of another format, or spoilt.
    """
    if (read := _READERS.get(path.suffix.lower())) is None:
        raise InputError(f"the table {str(path)!r} is none of {some(_READERS)}: save it as CSV (UTF-8)")
    try:
        columns = read(path)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"no table {str(path)!r}: give the path of one, or leave it out") from None
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise InputError(f"cannot read the table {str(path)!r}: {one_line(error)}; mend it or leave it out") from None
    names = columns.column_names
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(f"the table {str(path)!r} has more than one column {some(twice)}: keep one of each")
    for at, field in enumerate(columns.schema):
        if pa.types.is_dictionary(field.type):  # categories of pandas
            columns = columns.set_column(at, field.name, pc.cast(columns[at], field.type.value_type))
    return Table(path, base, columns)


def plain(name: str) -> str:
    """The name of a column as it is looked for: spreadsheets write "File Name"."""
    return name.strip().lower().replace(" ", "_")


def _read_text(path: Path) -> pa.Table:
    """Text stays what is written (001, NA, true); a column of integers alone becomes numbers."""
    text = _decoded(path)
    head, *rest = _LINE_END.split(text, maxsplit=1)
    if separator := _SEPARATOR.fullmatch(head):
        text, delimiter = "".join(rest), separator[1]
    else:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(head)
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    content = pa.py_buffer(text.encode())
    names = pa.csv.open_csv(pa.BufferReader(content), parse_options=parse).schema.names
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    table = pa.csv.read_csv(pa.BufferReader(content), pa.csv.ReadOptions(use_threads=False), parse, convert)
    # The name of a file may begin or end with a blank.
    columns = [_numbers(table[at], trim=plain(name) not in PATH_NAMES) for at, name in enumerate(table.column_names)]
    return pa.Table.from_arrays(columns, names=table.column_names)


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8-sig")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"the table {str(path)!r} is not UTF-8 (line {line}): save it as CSV UTF-8") from None


def _delimiter(head: str) -> str:
    """What splits the first line into names that we know; else what occurs there most."""

    def fit(delimiter: str) -> tuple[int, int]:
        names = next(csv.reader([head], delimiter=delimiter), [])
        return len(_KNOWN & set(map(plain, names))), head.count(delimiter)

    return max(",;\t|", key=fit)


def _numbers(column: pa.ChunkedArray, *, trim: bool) -> pa.ChunkedArray:
    text = pc.utf8_trim_whitespace(column)
    if not pc.all(pc.match_substring_regex(text, _WHOLE)).as_py():
        return text if trim else column
    whole = pc.replace_substring_regex(text, r"\.0$", "")
    return pc.cast(pc.if_else(pc.equal(whole, ""), None, whole), pa.int64())


_READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".csv": _read_text,
    ".tsv": _read_text,
    ".txt": _read_text,
    ".jsonl": pa.json.read_json,
    ".ndjson": pa.json.read_json,
    ".parquet": pq.read_table,
}
