"""When, by which commit and on what machine figures are measured: they say so wherever they go."""

from __future__ import annotations

import subprocess
from datetime import date
from pathlib import Path

from ..training.cards import hardware


def provenance() -> dict[str, str]:
    """When, by which commit and on what machine something is measured, for whoever keeps figures.

    Example:
        >>> sorted(provenance())
        ['commit', 'date', 'machine']
    """
    return {"date": date.today().isoformat(), "commit": _commit(), "machine": hardware()}


def _commit() -> str:
    """Of the checkout that this package lies in, with a plus where it was changed since."""
    folder = Path(__file__).parent
    try:
        described = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--exclude=*"]
        found = subprocess.run(described, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "an installed package"
    return found.stdout.strip()
