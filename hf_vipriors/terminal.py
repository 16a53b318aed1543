"""The terminal: what a user named is printed as it is, and never obeyed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from .markup import SIGNS

# Escape and its kind (C0 but tab and line feed, delete, C1), and what reverses the direction of the rest of a line.
_UNKNOWN = (*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_TABLE = {code: sign for code, sign in SIGNS.items() if chr(code) not in "\t\n"} | dict.fromkeys(_UNKNOWN, 0xFFFD)


def printable(text: str) -> str:
    """``text`` with a picture for every control character, so that a terminal shows it and does not obey it.

    Example:
        >>> printable("\\x1b[31mred")
        '␛[31mred'
    """
    return text.translate(_TABLE)


class Console(rich.console.Console):
    """Rich's console for text that users wrote: strings have no markup, and control characters are shown.

    Styles are given as :class:`rich.text.Text`. Numbers and paths are not coloured unless ``highlight`` is set.

    Example:
        >>> Console().print("shirt [red], n/a [/]")
        shirt [red], n/a [/]
    """

    def __init__(self, **options: Any):
        super().__init__(**{"markup": False, "emoji": False, "highlight": False} | options)

    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of anything; a control character in ready-made ``Text`` is met here at the latest."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
