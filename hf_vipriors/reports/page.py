"""What the HTML pages share: one style, drawings as SVG, tables, and a page made of sections. Nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from .figure_files import to_svg

_PIXELS_PER_INCH, _LEAST_PIXELS_PER_INCH, _WIDE_INCHES = 115, 60, 7


@dataclass
class Section:
    """A heading, how to read what follows, and cards side by side where there is room.

    Attributes:
        title: the heading.
        how: one or two sentences for a reader who sees such an image for the first time; may be empty.
        cards: from :func:`drawing`, :func:`table`, or other safe HTML.
        wide: one card a row, over the whole width.
    """

    title: str
    how: str = ""
    cards: list[Markup] = field(default_factory=list)
    wide: bool = False


def sections_page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """A self-contained page; a section without cards is left out.

    Example:
        >>> page = sections_page("A < B", "two models", [Section("Scores", cards=[table(["model"], [["A"]])])])
        >>> "<h1>A &lt; B</h1>" in page, "<h2>Scores</h2>" in page
        (True, True)
    """
    return render("sections.html.j2", title=title, subtitle=subtitle, sections=sections)


def render(template: str, **values: Any) -> str:
    """A page from ``templates/``; every text is escaped but what is :class:`~markupsafe.Markup`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def drawing(figure: Figure, name: str, description: str) -> Markup:
    """A figure for a page, in the page's colours.

    Args:
        figure: from ``report_figures``, ``model_figures`` or ``table_plots``.
        name: unique on the page.
        description: read aloud instead of the image.
    """
    width = figure.get_figwidth()
    # No larger than its letters want, and on a phone a wide one is scrolled, not shrunk until nothing can be read.
    limits = f"max-width:{width * _PIXELS_PER_INCH:.0f}px"
    if width > _WIDE_INCHES:
        limits += f";min-width:{width * _LEAST_PIXELS_PER_INCH:.0f}px"
    svg = to_svg(figure, name=name, description=description).replace("<svg ", f'<svg style="{limits}" ', 1)
    # Safe: matplotlib escapes every text it draws, and to_svg escapes the description.
    return Markup('<div class="scroll">{}</div>').format(Markup(svg))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    """A table, its first column to the left and numbers to the right.

    Example:
        >>> table(["class", "%"], [["cat & dog", -1]])
        Markup('<div class="scroll"><table class="plain"><thead>...<td>−1</td></tr></tbody></table></div>')
    """
    columns = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in head)
    lines = [
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            first, Markup("").join(Markup("<td>{}</td>").format(escape(minus(str(cell)))) for cell in rest)
        )
        for first, *rest in rows
    ]
    return Markup(
        '<div class="scroll"><table class="plain"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(columns, Markup("").join(lines))


def minus(text: str) -> str:
    """Typographic minus signs before numbers: as wide as a plus, and no place to break a line."""
    return re.sub(r"(?<![\w-])-(?=\d)", "−", text)
