"""What decides a run, as short sums: two runs of one fingerprint on one machine end with the same weights.

    data a3f0c2d19b7e  start 5e1d...  code 77c0...  settings 0b9a...  versions c41f...

Where two runs differ, the sums say in what: their images and labels, the weights that they start and learn from, this
package's code, their settings, or the libraries.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..methods import Method
from ..training import RunArguments
from ..training.no_influence import influences
from . import wiring

logger = logging.getLogger(__name__)
PACKAGE = Path(__file__).parent.parent
_LENGTH = 12
# What names weights and images, which are summed themselves, and what decides options that are summed.
_SUMMED_OTHERWISE = {
    "teacher", "more_teachers", "teacher_revision", "student_init", "corruptions", "trials", "search_space",
    "settings_of", "base_learning_rate",
}  # fmt: skip


def fingerprint(stores: Mapping[str, Dataset | None], method: Method, args: RunArguments) -> dict[str, str]:
    """The sums of a run that is set up and has not begun.

    Args:
        stores: split -> the store that the run uses; None where it uses none.
        method: with the weights it starts from, its frozen teachers in it.
        args: settled: batch, learning rate.

    Returns:
        part -> 12 hexadecimal digits of a SHA-256.
    """
    return {
        "data": data_sum(stores),
        "start": weights_sum(method),
        "code": code_sum(),
        "settings": settings_sum(args),
        "versions": _short(json.dumps(wiring.versions(), sort_keys=True).encode()),
    }


def data_sum(stores: Mapping[str, Dataset | None]) -> str:
    """Of images and labels: pixels of what is in memory, encoded pictures of what is streamed."""
    return _short(*(part for name, store in stores.items() if store for part in (name.encode(), store.checksum())))


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
    """Of the options that decide a result, the kind of device and the number of processes."""
    given = {
        name: value for name, value in args.to_dict().items() if influences(name) and name not in _SUMMED_OTHERWISE
    }
    given |= {"device": args.device.type, "world_size": args.world_size, "threads": torch.get_num_threads()}
    return _short(json.dumps(given, sort_keys=True, default=str).encode())


def record(args: RunArguments, sums: dict[str, str]) -> None:
    """Say them, and write them into ``run.json``."""
    if not args.should_save:
        return
    logger.info("fingerprint: %s", words(sums))
    file = Path(args.output_dir) / wiring.RUN_FILE
    wiring.write_json(file, {**wiring.read_json(file), "fingerprint": sums})


def words(sums: Mapping[str, str]) -> str:
    """On one line.

    Example:
        >>> words({"data": "a3f0c2d19b7e", "code": "77c01b2c3d4e"})
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
