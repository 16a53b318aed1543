"""Figures as files: SVG that follows the page's light or dark theme, and PNG in the light theme's colours."""

from __future__ import annotations

import copy
import io
import re
from html import escape

import matplotlib
from matplotlib import colors
from matplotlib.artist import Artist
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from .figure_text import plain_text
from .report_figures import CARD, GRID, INK, MUTED, SERIES

# Each placeholder's variable in the style sheet of the pages, and its light shade there.
THEME = {INK: ("ink", "#1b1f24"), MUTED: ("muted", "#59636e"), GRID: ("grid", "#dde2e8"), CARD: ("card", "#ffffff")}
_SHADES = (
    "#0072b2", "#d55e00", "#00906a", "#b8568f", "#3fa3dc", "#cc8400", "#7a7000", "#555b61", "#8a4b22", "#1b1f24"
)  # fmt: skip
THEME |= {colour: (f"s{number}", shade) for number, (colour, shade) in enumerate(zip(SERIES, _SHADES, strict=True), 1)}
_DPI = 160


def to_svg(figure: Figure, *, name: str, description: str) -> str:
    """The figure as an ``<svg>`` element for a page, themed by CSS variables and described for screen readers.

    Args:
        figure: drawn in the placeholder colours, or in colours of its own.
        name: unique on the page; prefixes the ids inside, which would otherwise clash between figures.
        description: read aloud instead of the image.
    """
    buffer = io.StringIO()
    # "none" keeps text as text: it takes the page's font, scales and can be searched.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), plain_text(figure):
        options = {"bbox_inches": "tight", "pad_inches": 0.03, "metadata": {"Date": None}}
        figure.savefig(buffer, format="svg", transparent=True, **options)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", svg, count=1)
    svg = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", svg, count=1)
    for colour, (variable, _) in THEME.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(description, quote=True)}" ', 1).strip()


def to_png(figure: Figure, **texts: str) -> bytes:
    """The figure as a PNG file on white, in the colours that the light page shows; the figure itself stays as it is.

    Args:
        figure: drawn in the placeholder colours, or in colours of its own.
        texts: what the file says of itself, by PNG's keywords (``Source``, ``Description``, ...).

    Example:
        >>> to_png(Figure(figsize=(1, 1)))[1:4]
        b'PNG'
    """
    # A copy, for colours cannot be changed back: two placeholders may share a shade.
    drawn: Figure = copy.deepcopy(figure)
    for artist in drawn.findobj():
        _recolour(artist)
    buffer = io.BytesIO()
    with plain_text(drawn):
        drawn.savefig(
            buffer, format="png", dpi=_DPI, facecolor="white", bbox_inches="tight", pad_inches=0.1,
            metadata={"Software": None, **texts},
        )  # fmt: skip
    return buffer.getvalue()


def _recolour(artist: Artist) -> None:
    if isinstance(artist, Text):
        artist.set_color(_light(artist.get_color()))
        if artist.get_bbox_patch() is not None:
            _recolour(artist.get_bbox_patch())
    elif isinstance(artist, Line2D):
        artist.set_markerfacecolor(_light(artist.get_markerfacecolor()))
        artist.set_markeredgecolor(_light(artist.get_markeredgecolor()))
        artist.set_color(_light(artist.get_color()))
    elif isinstance(artist, Patch):
        face, edge = artist.get_facecolor(), artist.get_edgecolor()
        artist.set_facecolor(_light(face))
        artist.set_edgecolor(_light(edge))
    elif isinstance(artist, Collection):
        artist.set_facecolor([_light(colour) for colour in artist.get_facecolor()])
        artist.set_edgecolor([_light(colour) for colour in artist.get_edgecolor()])


def _light(colour: object) -> tuple[float, float, float, float]:
    """A placeholder's light shade, its opacity kept; any other colour as it is."""
    red, green, blue, alpha = colors.to_rgba(colour)
    name = colors.to_hex((red, green, blue))
    return colors.to_rgba(THEME[name][1], alpha) if name in THEME else (red, green, blue, alpha)
