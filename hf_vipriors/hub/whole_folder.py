"""A model's folder that is there whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.utils import CONFIG_NAME


@contextmanager
def whole_folder(directory: Path | str) -> Iterator[Path]:
    """A folder beside ``directory`` to write into, whose files move there at the end, ``config.json`` last.

    On an error nothing of them is left, and ``directory`` is as it was. Files of other names stay in it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as outputs:
        ...     with whole_folder(f"{outputs}/student") as folder:
        ...         _ = (folder / "config.json").write_text("{}")
        ...     os.listdir(f"{outputs}/student")
        ['config.json']
    """
    directory = Path(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.parent / f".{directory.name}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        yield temporary
        if not directory.exists():
            temporary.rename(directory)
            return
        # Who reads a folder looks for its config first: there is none while other files are of two minds.
        (directory / CONFIG_NAME).unlink(missing_ok=True)
        for name in sorted(os.listdir(temporary), key=lambda name: name == CONFIG_NAME):
            os.replace(temporary / name, directory / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
