"""A notebook beside a student: load it, predict an image, draw the scores, go on from there.

JSON by hand: its format is four fields a cell, and nbformat would bring ten packages for them.
"""

from __future__ import annotations

import re

from ..files import json_text
from .card_facts import CardFacts
from .model_card import render

NOTEBOOK = "notebook.ipynb"
_CODE = re.compile(r"^```python\n(.*?)\n```$", re.DOTALL | re.MULTILINE)


def notebook(facts: CardFacts) -> str:
    """The text of a notebook (nbformat 4.5) that runs in Jupyter and Colab; class names stand in its Markdown only.

    Args:
        facts: of a student with a ``repo_id``; the first of its ``examples`` is the image, else one of the reader's.

    Example:
        >>> import json
        >>> facts = CardFacts("pets", "student", "resnet18", 64, ["cat", "dog"], "pets", "overhaul", repo_id="me/pets")
        >>> cells = json.loads(notebook(facts))["cells"]
        >>> cells[2]["source"].splitlines()[-1]
        'classify = pipeline("image-classification", model="me/pets")'
    """
    # Odd places of the split are code: the pattern has one group.
    parts = [part.strip("\n") for part in _CODE.split(render("notebook.md.j2", facts=facts))]
    cells = [_cell(part, code=place % 2 == 1) for place, part in enumerate(parts) if part]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return json_text(
        {
            "cells": [{"id": f"cell-{number}", **each} for number, each in enumerate(cells)],
            "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )


def _cell(text: str, *, code: bool) -> dict:
    source = re.sub(r"\n{3,}", "\n\n", text)
    if code:
        return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}
    return {"cell_type": "markdown", "metadata": {}, "source": source}
