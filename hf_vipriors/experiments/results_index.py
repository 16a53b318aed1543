"""``model_cards/results/index.json``: every figure that was measured, with when, on what, from how many seeds and by
which commit; what the README says first is drawn from it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..files import read_json
from ..reports.report_rows import summarise
from .table_results import report

INDEX = "index.json"
_NOT_RECORDED = "not recorded"


def results_index(folder: Path) -> dict[str, Any]:
    """All ``*.json`` of a folder of results that hold rows, as one table.

    Returns:
        ``files``: name -> title, versions and provenance; ``figures``: one entry a row, accuracies as fractions.
    """
    files, figures = {}, []
    for path in sorted(folder.glob("*.json")):
        found = read_json(path)
        if path.name == INDEX or "title" not in found or not {"groups", "rows"} & found.keys():
            continue
        environment = found.get("environment", {})
        measured = {"date": _NOT_RECORDED, "commit": _NOT_RECORDED, "machine": _NOT_RECORDED}
        measured |= {name: value for name, value in environment.items() if name in measured}
        measured |= found.get("measured", {})
        versions = found.get("versions") or {k: v for k, v in environment.items() if k not in (*measured, "threads")}
        otherwise = {name: found[name] for name in ("length", "dataset") if name in found}
        files[path.stem] = {"title": found["title"], **otherwise, **measured, "versions": versions}
        for group in found.get("groups", [found]):
            figures += [{"file": path.stem, "group": group["title"]} | figure for figure in _figures(group)]
    return {"files": files, "figures": figures}


def _figures(group: dict[str, Any]) -> list[dict[str, Any]]:
    rows = report(group["title"], [{"baseline": False} | row for row in group["rows"]])
    return [
        {
            **{"row": row.name, "note": row.note, "baseline": row.baseline, "metric": row.metric},
            **{"values": source.get("values", {}), "seeds": len(row.top1), "test_images": row.test_images},
            **{"mean": found.top1, "interval": found.interval, "seconds": found.seconds},
            **{"difference": found.difference, "difference_interval": found.difference_interval},
            **({"published": row.published} if row.published else {}),
        }
        for row, source, found in zip(rows.rows, group["rows"], summarise(rows), strict=True)
    ]
