"""``evaluate.Metric`` modules that ship in the package, so that measuring needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import nearest

if TYPE_CHECKING:
    import evaluate

_FOLDER = Path(__file__).parent


def load_metric(name: str) -> evaluate.Metric:
    """Load one of our metrics with ``evaluate.load(path)``.

    ``evaluate.load("accuracy")`` fetches a script from the Hub at every first use; a path never does.

    Args:
        name: the folder's name, such as "vipriors_accuracy".

    Returns:
        A fresh ``evaluate.Metric`` that keeps its data in memory (no lock files in a shared cache).

    Raises:
        ValueError: no such metric.

    Example:
        >>> load_metric("vipriors_accuracy").compute(predictions=[[0.9, 0.1]], references=[0])["top1"]
        1.0
    """
    # Imported here: `import evaluate` pulls in transformers' pipelines and takes seconds.
    import evaluate

    known = sorted(path.parent.name for path in _FOLDER.glob("*/*.py") if path.stem == path.parent.name)
    if name not in known:
        raise ValueError(f"no metric {name!r} ships with hf_vipriors: {nearest(name, known)}")
    return evaluate.load(str(_FOLDER / name / f"{name}.py"), module_type="metric", keep_in_memory=True)
