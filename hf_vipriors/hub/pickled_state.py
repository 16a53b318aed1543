"""Files that ``torch.save`` wrote, by people unknown: their tensors by name, or one line.

They are pickles. They are read with ``torch.load(weights_only=True)``, which runs no code from them, and in no other
way; what it refuses stays refused.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..models.modeling_vipriors import not_finite

State = dict[str, Tensor]


def listed(names: Collection[str], limit: int = 5) -> str:
    """The first few names and how many more there are.

    Example:
        >>> listed(["a", "b", "c"], limit=2)
        'a, b and 1 more'
    """
    first = ", ".join(" ".join(name.split())[:100] for name in sorted(names)[:limit])
    return first if len(names) <= limit else f"{first} and {len(names) - limit} more"


def read_pickle(path: Path) -> dict[Any, Any]:
    """What a file of ``torch.save`` holds, read so that nothing in it can run or fill the memory.

    Raises:
        InputError: no such file, damaged, compressed, or with more in it than tensors and plain values.
    """
    if not path.is_file():
        raise InputError(f"no such file {path}: give a published *.pth.tar, *.pth or *.pt file")
    try:
        packed = zipfile.is_zipfile(path) and _packed(path)
    except Exception:  # a torn archive, which torch.load will refuse
        packed = False
    if packed:
        raise InputError(f"{path} is a compressed archive, which torch.save never writes: it may unpack without end")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise InputError(
                f"{path} is no file that torch.save wrote, or a damaged one: download it again"
            ) from error
        raise InputError(
            f"{path} holds more than tensors: {refused[1]} is refused, since it could run code. If you trust the "
            "file, load it where it was made and save its state_dict alone: torch.save({'state_dict': ...}, FILE)"
        ) from error
    except Exception as error:  # a torn archive: RuntimeError, EOFError, KeyError, UnicodeDecodeError ...
        raise InputError(f"{path} is no file that torch.save wrote, or a damaged one: download it again") from error
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds a {type(content).__name__}, not a checkpoint with a state_dict")
    return content


def _packed(path: Path) -> bool:
    """Whether an archive holds more than its own bytes."""
    with zipfile.ZipFile(path) as archive:
        files = archive.infolist()
    compressed = any(file.compress_type != zipfile.ZIP_STORED for file in files)
    return compressed or sum(file.file_size for file in files) > path.stat().st_size


def state_dict(content: dict[Any, Any], path: Path) -> State:
    """The tensors by name, without the prefix of DistributedDataParallel.

    Raises:
        InputError: there are none, or some that are not finite or stand for more numbers than the file holds.
    """
    state = content.get("state_dict", content)
    named = isinstance(state, dict) and state and all(isinstance(name, str) for name in state)
    if not named or not all(isinstance(each, Tensor) for each in state.values()):
        fields = [name for name in content if isinstance(name, str)]
        raise InputError(f"{path} has no state_dict of tensors by name: its fields are {listed(fields)}")
    strange = [name for name, each in state.items() if not _is_whole(each)]
    if strange:
        raise InputError(f"{path} does not hold all numbers of {listed(strange)}: this is not what a program saves")
    if broken := not_finite(state.items()):
        raise InputError(f"{path} holds values that are not finite numbers, in {listed(broken)}: download it again")
    wrapped = all(name.startswith("module.") for name in state)
    return {name.removeprefix("module.") if wrapped else name: each for name, each in state.items()}


def _is_whole(tensor: Tensor) -> bool:
    """A plain tensor whose numbers all lie in the file: a few bytes may stand for a million million of them."""
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
