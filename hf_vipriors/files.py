"""Files that are there in full or not at all."""

from __future__ import annotations

import json
import os
import re
import reprlib
import tempfile
import unicodedata
import uuid
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any

from .errors import InputError, one_line

_LONGEST = 120  # bytes of a name; file systems take 255


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to: at the end it is renamed to ``path``, on an error it is removed.

    Whoever reads ``path`` meanwhile, or after a kill, finds the old file or the new one, never a part.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "notes.txt") as part:
        ...         _ = part.write_text("done")
        ...     os.listdir(folder)
        ['notes.txt']
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")  # several processes may write the same file
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        # A full disk names no file, and nobody knows the part's name.
        if error.errno and error.filename in (None, str(part)):
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def check_new(path: str | Path, flag: str) -> None:
    """Before any work: there is nothing at ``path``, and a file or a folder can be made there.

    Args:
        path: as it was given.
        flag: the option that named it, for messages.

    Raises:
        InputError: it exists, or see :func:`check_can_write`.
    """
    if os.path.lexists(path):
        raise InputError(f"--{flag} {path} exists: choose another name")
    check_can_write(path, flag)


def check_can_write(path: str | Path, flag: str) -> None:
    """Before any work: ``path``, or the nearest above it that exists, is a folder and takes files; none is left in it.

    Raises:
        InputError: it is none, or takes none: no rights, a disk that is read-only or full, a folder like /proc.
    """
    if not str(path):
        raise InputError(f"--{flag} is empty: give a name")
    whole = Path(path).absolute()
    nearest = next(each for each in (whole, *whole.parents) if os.path.lexists(each))
    if not nearest.is_dir():
        raise InputError(f"--{flag} {path} cannot be written: {nearest} is no folder; choose another place")
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise InputError(
            f"--{flag} {path} cannot be written: {error.strerror} in {nearest}; choose another place"
        ) from None


def file_names(texts: Iterable[str]) -> dict[str, str]:
    """A name for a file or folder for each of some texts, near to what it says, and to no two the same.

    Example:
        >>> file_names(["cat", "T-shirt/top", "T-shirt:top", "猫", ".."])
        {'cat': 'cat', 'T-shirt/top': 'T-shirt_top', 'T-shirt:top': 'T-shirt_top (2)', '猫': '猫', '..': '_'}
    """
    found: dict[str, str] = {}
    for text in texts:
        plain = re.sub(r'[\x00-\x1f\x7f-\x9f/\\\\:*?"<>|]', "_", text).strip(". ") or "_"
        plain = plain.encode(errors="replace")[:_LONGEST].decode(errors="ignore")
        taken = {name.casefold() for name in found.values()}  # some file systems know no case
        found[text] = free_name(plain, "{} ({})", taken, str.casefold)
    return found


def file_stem(name: str, taken: Container[str] = ()) -> str:
    """A file name without suffix for ``name``: its letters of any script and digits, and none of those ``taken``.

    Example:
        >>> file_stem("Ankle boot"), file_stem("猫"), file_stem("C#", taken=["c"]), file_stem("!")
        ('ankle-boot', '猫', 'c-2', 'unnamed')
    """
    kept = (c if unicodedata.category(c)[0] in "LMN" else "-" for c in unicodedata.normalize("NFC", name.lower()))
    stem = re.sub("-+", "-", "".join(kept)).strip("-")[:60] or "unnamed"
    return free_name(stem, "{}-{}", taken)


def free_name(name: str, numbered: str, taken: Container[str], key: Callable[[str], str] = str) -> str:
    """The name, or with the first number that is not taken."""
    tries = chain([name], (numbered.format(name, number) for number in count(2)))
    return next(each for each in tries if key(each) not in taken)


def is_utf8(path: str) -> bool:
    """Whether a path can be written down; of other bytes Python makes what no table and no library takes.

    Example:
        >>> is_utf8("Käfer"), is_utf8(os.fsdecode(b"K\\xe4fer"))
        (True, False)
    """
    return not any("\ud800" <= letter <= "\udfff" for letter in path)


def waits_for_ever(path: str | os.PathLike) -> bool:
    """Whether what lies at ``path`` is a FIFO, a socket or a device, which to read may never end.

    Example:
        >>> waits_for_ever(os.devnull), waits_for_ever(__file__), waits_for_ever("no such file")
        (True, False, False)
    """
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def save_tensors(tensors: Mapping[str, Any], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write safetensors that others may read where the umask lets them: ``save_file`` allows it to nobody else."""
    from safetensors.torch import save_file  # here: torch takes a second, and not all who write files need it

    path.touch()
    rights = path.stat().st_mode
    save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    path.chmod(rights)


def write_file(path: Path, content: str | bytes) -> Path:
    """Write ``content``, text as UTF-8, see :func:`replacing`; bytes of a path that are no UTF-8 as ``\\udc..``."""
    with replacing(path) as part:
        part.write_bytes(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
    return path


def json_text(value: Any, *, allow_nan: bool = True) -> str:
    """JSON as all our files hold it: indented, readable letters, a last line end; other objects by their ``str``."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=allow_nan, default=str) + "\n"


def write_json(path: Path, value: Any, *, allow_nan: bool = True) -> Path:
    """Write ``value`` as :func:`json_text`, see :func:`replacing`.

    Raises:
        ValueError: without ``allow_nan``, a number that is not finite, which JSON does not know.
    """
    return write_file(path, json_text(value, allow_nan=allow_nan))


def read_json(path: Path) -> Any:
    """What :func:`write_json` wrote.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or a nest without end
        raise InputError(f"{path} is damaged: {one_line(error)}") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """As :func:`read_json`, of a file that holds names and their values.

    Raises:
        InputError: the file is damaged, or holds something else.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: it holds {reprlib.repr(found)} in place of names and values")
    return found
