"""``evaluate.Metric`` modules that ship in the package, so that measuring needs no network."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import nearest

if TYPE_CHECKING:
    import evaluate

_FOLDER = Path(__file__).parent


def load_metric(name: str) -> evaluate.Metric:
    """One of our metrics, without ``evaluate.load``: it would copy the module into a cache, below a home to write in.

    Args:
        name: the folder's name, such as "vipriors_accuracy".

    Returns:
        A fresh ``evaluate.Metric`` that keeps its data in memory: no file is written.

    Raises:
        ValueError: no such metric.

    Example:
        >>> load_metric("vipriors_accuracy").compute(predictions=[[0.9, 0.1]], references=[0])["top1"]
        1.0
    """
    known = sorted(path.parent.name for path in _FOLDER.glob("*/*.py") if path.stem == path.parent.name)
    if name not in known:
        raise ValueError(f"no metric {name!r} ships with hf_vipriors: {nearest(name, known)}")
    module = importlib.import_module(f"{__name__}.{name}.{name}")
    return getattr(module, name.title().replace("_", ""))(keep_in_memory=True)
