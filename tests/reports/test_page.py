"""What pages share: sections, tables, drawings that fit their place."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from markupsafe import Markup
from matplotlib.figure import Figure

from hf_vipriors.reports.page import Section, drawing, sections_page, table
from hf_vipriors.reports.report_figures import single_axes


def test_sections_stand_in_their_order_and_empty_ones_are_left_out():
    sections = [
        Section("One", "how & why", [Markup("<b>1</b>")]),
        Section("Empty", "never"),
        Section("Two", cards=["<2>"]),
    ]
    page = sections_page("A <title>", "what it is", sections)
    assert (
        page.index("<h2>One</h2>") < page.index("how &amp; why") < page.index("<b>1</b>") < page.index("<h2>Two</h2>")
    )
    assert "Empty" not in page and "never" not in page
    # Text is text, whoever gives it.
    assert "A &lt;title&gt;" in page and "&lt;2&gt;" in page and "<2>" not in page


def test_a_page_fetches_nothing():
    tags = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.add(tag)
            assert not {"src", "href"} & dict(attrs).keys()

    Reader().feed(sections_page("t", "s", [Section("One", cards=[table(["a"], [[1]])])]))
    assert {"main", "table"} <= tags and not tags & {"script", "link", "iframe"}


def test_cells_are_escaped_and_numbers_get_a_minus():
    text = table(["name", "x & y"], [["<b>", -1.5], ["a-1", "2 to -3"]])
    assert "<b>" not in text and "&lt;b&gt;" in text and "x &amp; y" in text
    assert "<td>−1.5</td>" in text and "2 to −3" in text and "a-1" in text


@pytest.mark.parametrize(("inches", "scrolls"), [(4, False), (11, True)])
def test_a_drawing_is_no_larger_than_its_letters_want_and_a_wide_one_scrolls(inches, scrolls):
    figure, _ = single_axes(inches, 2)
    text = drawing(figure, "x", 'a "line"')
    assert text.startswith('<div class="scroll"><svg style="max-width:') and ("min-width" in text) == scrolls
    assert "a &quot;line&quot;" in text


def test_drawings_of_one_page_share_no_id():
    both = [drawing(Figure(figsize=(1, 1)), name, "x") for name in ("one", "two")]
    assert 'id="one-' in both[0] and 'id="two-' in both[1] and 'id="one-' not in both[1]
