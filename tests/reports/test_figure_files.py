"""Figures as files: SVG that follows the theme, PNG in the colours of the light page."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colors
from matplotlib.figure import Figure
from PIL import Image

from hf_vipriors.reports import figure_files
from hf_vipriors.reports.figure_files import THEME, to_png, to_svg
from hf_vipriors.reports.report_figures import (
    CARD,
    INK,
    MUTED,
    SERIES,
    confusion_figure,
    curves_figure,
    feature_map_figure,
)
from hf_vipriors.reports.report_rows import Curve

STYLE = Path(figure_files.__file__).parent / "templates" / "_page.html.j2"


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(to_png(figure))).convert("RGB"))


def test_svg_follows_the_theme_and_describes_itself():
    figure = curves_figure([Curve("a < b", [0, 1], [1.0, 0.5], "loss", chance=0.7)])
    svg = to_svg(figure, name="one", description='loss "falls" & rises')
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == 'loss "falls" & rises' and root.get("role") == "img"
    assert root.get("viewBox") and root.get("width") is None and root.get("height") is None
    for placeholder in THEME:
        assert placeholder not in svg
    assert {"var(--ink)", "var(--muted)", "var(--grid)", "var(--s1)"} <= set(re.findall(r"var\(--\w+\)", svg))
    # CSS variables work in style attributes only.
    assert not re.search(r'(?:fill|stroke)="var', svg)
    assert "<style" not in svg and "<metadata" not in svg
    other = to_svg(figure, name="two", description="x")
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (svg, other)]
    assert ids[0] and not ids[0] & ids[1]


def test_every_variable_has_a_light_and_a_dark_value_and_png_has_the_light_one():
    css = STYLE.read_text(encoding="utf-8").split("@media screen and (prefers-color-scheme: dark)")
    dark = css[1].split("}")[0]
    for name, shade in THEME.values():
        assert f"--{name}: {shade};" in css[0] and f"--{name}: #" in dark, name


def drawings():
    """One figure a kind of artist: lines, texts and boxes, patches, points."""
    yield curves_figure([Curve("a", [0, 1], [1.0, 0.5], "loss", chance=0.7)])
    yield confusion_figure(np.array([[3, 1], [0, 4]]), ["cat", "dog"])
    yield feature_map_figure(np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 10, ["x"] * 10)


@pytest.mark.parametrize("figure", list(drawings()), ids=("curves", "confusion", "map"))
def test_a_png_shows_no_placeholder(figure):
    """Placeholders are nearly black, and nearly the same: an image in them looks drawn in one colour."""
    found = {colors.to_hex(np.array(each) / 255) for each in np.unique(pixels(figure).reshape(-1, 3), axis=0)}
    assert "#ffffff" in found and not found & set(THEME)


def test_a_png_shows_no_placeholder_in_the_box_behind_a_text():
    figure = Figure(figsize=(1, 1))
    figure.text(0.5, 0.5, "coat", color=INK, bbox={"facecolor": CARD, "edgecolor": MUTED})
    found = {colors.to_hex(np.array(each) / 255) for each in np.unique(pixels(figure).reshape(-1, 3), axis=0)}
    assert "#59636e" in found and not found & set(THEME)


def test_a_png_has_the_shades_of_the_light_page():
    figure = Figure(figsize=(2, 1))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.bar([0, 1], [1, 1], color=[SERIES[0], SERIES[1]], width=1, linewidth=0)
    axes.set_axis_off()
    found = {tuple(each) for each in np.unique(pixels(figure).reshape(-1, 3), axis=0)}
    assert {(0, 114, 178), (213, 94, 0)} <= found


def test_a_png_leaves_the_figure_as_it_was():
    figure = curves_figure([Curve("a", [0, 1], [1.0, 0.5], "loss", chance=0.7)])
    assert to_png(figure) == to_png(figure)
    assert figure.axes[0].xaxis.label.get_color() == INK and figure.axes[0].lines[0].get_color() == SERIES[0]
