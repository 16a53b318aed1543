"""Text that users wrote, in figures: no mathematics, no control characters, and fonts that have its letters."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from ..terminal import printable

logger = logging.getLogger(__name__)
_named: set[str] = set()  # letters that the log said no font has


@contextmanager
def plain_text(figure: Figure) -> Iterator[None]:
    """While this lasts, ``figure`` is drawn with its texts as they were written. Log axes keep their powers of ten."""
    axes = [axis for each in figure.axes for axis in (each.xaxis, each.yaxis) if axis.get_scale() == "log"]
    powers = {id(text) for axis in axes for text in axis.findobj(Text)} - {id(axis.label) for axis in axes}
    texts = [text for text in figure.findobj(Text) if id(text) not in powers]
    for text in texts:
        text.set_parse_math(False)
        text.set_text(printable(text.get_text()))
    families = fonts_for(frozenset("".join(text.get_text() for text in texts)))
    for text in texts:
        text.set_fontfamily(list(families))
    settings = {"font.family": list(families), "text.parse_math": bool(axes)}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # fonts_for has said so
        yield


@lru_cache(maxsize=64)
def fonts_for(characters: frozenset[str]) -> tuple[str, ...]:
    """Families that have these characters together: matplotlib's own, then others of this machine that are needed.

    What no font has is named in the log, once.
    """
    families = ["DejaVu Sans"]
    missing = _without(font_manager.findfont("DejaVu Sans"), {each for each in characters if each.isprintable()})
    # Upright faces without serifs first, as the rest of the figure is.
    order = sorted(
        font_manager.findSystemFonts(),
        key=lambda path: ("Sans" not in path, "Regular" not in path, "Mono" in path, path),
    )
    for path in order if missing else []:
        left = _without(path, missing)
        if len(left) < len(missing):
            missing = left
            families.append(_register(path))
    if new := missing - _named:
        _named.update(new)
        some = "".join(sorted(new)[:10])
        logger.warning("no font here has %s: figures show boxes in their place (the tables show them)", some)
    return tuple(families)


def _without(path: str, characters: set[str]) -> set[str]:
    """Those of ``characters`` that a font file cannot draw: all of them, if it is unreadable or has only bitmaps."""
    try:
        font = FT2Font(path)
    except (RuntimeError, OSError):
        return characters
    return {each for each in characters if not font.get_char_index(ord(each))} if font.scalable else characters


def _register(path: str) -> str:
    """Make a font file and its bold face known to matplotlib; returns the family."""
    bold = Path(path).with_name(Path(path).name.replace("Regular", "Bold"))
    for each in {path, *([str(bold)] if bold.is_file() else [])}:
        font_manager.fontManager.addfont(each)
    return FT2Font(path).family_name
