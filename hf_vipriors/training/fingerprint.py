"""What decides a run, as short sums: two runs of one fingerprint on one machine end with the same weights.

    data a3f0c2d19b7e  start 5e1d...  code 77c0...  settings 0b9a...  versions c41f...

Where two runs differ, the sums say in what: their images and labels, the weights that they start and learn from, this
package's code, their settings, or the libraries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..methods import METHODS, Method, method_options
from .arguments import RunArguments
from .run_files import versions
from .run_identity import influences
from .setup import Setup
from .stores import Store, is_streamed

PACKAGE = Path(__file__).parent.parent
_LENGTH = 12
# Images are read once for all sums of a process: they do not change, and may be many.
_checksums: WeakKeyDictionary[Store, bytes] = WeakKeyDictionary()
# What names weights and images, which are summed themselves, and what decides options that are summed.
_SUMMED_OTHERWISE = {
    "teacher", "more_teachers", "teacher_revision", "student_init", "corruptions", "trials", "search_space",
    "settings_of", "base_learning_rate",
}  # fmt: skip


def fingerprint(setup: Setup) -> dict[str, str]:
    """The sums of a run that is set up and has not begun.

    Returns:
        part -> 12 hexadecimal digits of a SHA-256.
    """
    return {
        "data": data_sum(setup.stores),
        "start": weights_sum(setup.method),
        "code": code_sum(),
        "settings": settings_sum(setup.args),
        "versions": _short(json.dumps(versions(), sort_keys=True).encode()),
    }


def data_sum(stores: Mapping[str, Store]) -> str:
    """Of images and labels: pixels of what is in memory, encoded images of what is streamed."""
    return _short(*(part for name, store in stores.items() for part in (name.encode(), _checksum(store))))


def store_sums(store: Store) -> dict[str, Any]:
    """How many images a store has, and sums of their labels and of all of it.

    The latter of a store in memory is never that of a streamed one: only those of one kind can be compared.
    """
    labels, content = (_short(part) for part in (_bytes(store.labels), _checksum(store)))
    return {"count": len(store), "labels": labels, "content": content, "streamed": is_streamed(store)}


def _checksum(store: Store) -> bytes:
    if store not in _checksums:
        _checksums[store] = store.checksum()
    return _checksums[store]


def teachers_sum(method: Method) -> str | None:
    """Of the parameters of the networks that a method learns from, which stay as they are; None without any."""
    parts = [_bytes(tensor) for teacher in method.teachers() for tensor in teacher.model.parameters()]
    return _short(*parts) if parts else None


def weights_sum(method: Method) -> str:
    """Of all that is trained, and of the networks that it learns from."""
    parts = []
    for module in (method, *(teacher.model for teacher in method.teachers())):
        for name, tensor in module.state_dict().items():
            parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), _bytes(tensor)]
    return _short(*parts)


def code_sum(package: Path = PACKAGE) -> str:
    """Of this package: its version, and every file of Python in it."""
    files = sorted(package.rglob("*.py"), key=lambda file: file.relative_to(package).as_posix())
    named = (part for file in files for part in (file.relative_to(package).as_posix().encode(), file.read_bytes()))
    return _short(version("hf-vipriors").encode(), *named)


def settings_sum(args: RunArguments) -> str:
    """Of the options that decide a result, the kind of device and the number of processes.

    Options of other methods are left out: a sum stays the same when a method is added to the package.
    """
    others = {name for method in METHODS.values() for name in method_options(method)}
    others -= set(method_options(METHODS[args.method]))
    left_out = others | _SUMMED_OTHERWISE
    given = {name: value for name, value in args.to_dict().items() if influences(name) and name not in left_out}
    given |= {"device": args.device.type, "world_size": args.world_size, "threads": torch.get_num_threads()}
    return _short(json.dumps(given, sort_keys=True, default=str).encode())


def fingerprint_line(sums: Mapping[str, str]) -> str:
    """On one line.

    Example:
        >>> fingerprint_line({"data": "a3f0c2d19b7e", "code": "77c01b2c3d4e"})
        'data a3f0c2d19b7e, code 77c01b2c3d4e'
    """
    return ", ".join(f"{part} {value}" for part, value in sums.items())


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _short(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.hexdigest()[:_LENGTH]
