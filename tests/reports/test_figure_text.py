import pytest
from matplotlib.figure import Figure

from hf_vipriors.reports.figure_files import to_png, to_svg
from hf_vipriors.reports.figure_text import fonts_for


@pytest.mark.parametrize("name", [r"$\frac{1}{2}$", r"$\nosuch{$", "a_b^{c", "$x$"])
def test_what_looks_like_mathematics_is_drawn_as_it_is_written(name):
    figure = Figure()
    axes = figure.add_subplot(title=name, xlabel=name)
    axes.set_yticks([0, 1], labels=[name, "other"])
    assert to_svg(figure, name="f", description="").count(f">{name}<") == 3
    assert to_png(figure)[1:4] == b"PNG"


def test_a_log_axis_keeps_its_powers_of_ten():
    figure = Figure()
    figure.add_subplot(title="$x$").set_yscale("log")
    drawn = to_svg(figure, name="f", description="")
    assert r">$\mathdefault" not in drawn and ">$x$<" in drawn


def test_a_letter_that_no_font_has_is_named_once(recwarn, monkeypatch):
    said = []  # by the module itself: a log that other tests set up may show a line twice
    monkeypatch.setattr("hf_vipriors.reports.figure_text.logger.warning", lambda text, *args: said.append(text % args))
    fonts_for.cache_clear()
    monkeypatch.setattr("hf_vipriors.reports.figure_text._named", set())
    figure = Figure()
    figure.add_subplot(title="\U000323af \u0378x 猫")
    monkeypatch.setattr("hf_vipriors.reports.figure_text.font_manager.findSystemFonts", list)
    to_png(figure)
    to_png(figure)
    assert len([line for line in said if "no font here has" in line and "猫" in line]) == 1
    assert not [each for each in recwarn if "Glyph" in str(each.message)]
    fonts_for.cache_clear()
