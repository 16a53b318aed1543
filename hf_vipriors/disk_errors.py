"""What a disk refuses, in words: which path it was, and what to do about it by what lies there."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets
from huggingface_hub import constants

from .errors import one_line

_SPACE = "free some space there"
_RIGHTS = "give files that you may read and folders that you may write to"
_MENDS = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOTDIR: _RIGHTS,
}
# safetensors, torch.save and programs in other languages have errors of their own for this, without a path.
_FULL = ("No space left on device", "Disk quota exceeded", "File too large", "PytorchStreamWriter failed")
_OUTPUT, _CACHE, _TEMPORARY = "choose another --output_dir", "set HF_HOME to another folder", "set TMPDIR to another"
CACHE = "it is most likely the disk of the cache (HF_HOME)"
_UNKNOWN = "it may be the disk of --output_dir, of the cache (HF_HOME) or of temporary files (TMPDIR)"


def explain_disk_error(error: BaseException, outputs: Iterable[Path] = (), *, unnamed: str = _UNKNOWN) -> str | None:
    """What a disk refused and how to mend it, or None where it was no disk; libraries wrap such errors in their own.

    Args:
        error: whatever was raised.
        outputs: folders that this process writes its results to.
        unnamed: what to say where the error names no path.

    Example:
        >>> full = OSError(28, "No space left on device", "student/model.safetensors")
        >>> explain_disk_error(full, [Path("student")])
        "No space left on device: 'student/model.safetensors'; free some space there, or choose another --output_dir"
        >>> explain_disk_error(FileNotFoundError(2, "No such file or directory", "photos")) is None
        True
    """
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in _MENDS:
            mend, name = _MENDS[each.errno], each.filename2 or each.filename
            if not isinstance(name, str | bytes | Path):  # none, or a number of an open file
                return f"{one_line(each)}; {mend}; {unnamed}"
            path = Path(name.decode() if isinstance(name, bytes) else name)
            other = _elsewhere(path, outputs)
            mends = [other] if other and mend == _RIGHTS else [mend, *([other] if other else [])]
            return f"{each.strerror}: {str(path)!r}; {', or '.join(mends)}"
        if any(words in str(each) for words in _FULL):
            return f"{one_line(each).rstrip('.')}; {_SPACE}; {unnamed}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised from; what was merely met before it may have nothing to do with it."""
    while error is not None:
        yield error
        error = error.__cause__


def _elsewhere(path: Path, outputs: Iterable[Path]) -> str | None:
    """Which setting would bring what lies at a path to another place."""
    caches = (constants.HF_HOME, constants.HF_HUB_CACHE, datasets.config.HF_DATASETS_CACHE)
    for folders, setting in ((outputs, _OUTPUT), (caches, _CACHE), ([tempfile.gettempdir()], _TEMPORARY)):
        for folder in map(Path, folders):
            place, there = folder.expanduser().resolve(), path.resolve()
            if there.is_relative_to(place) or place.is_relative_to(there):  # a folder above it could not be made
                return setting
    return None
