"""Plots of tables from plain numbers: what is drawn where, and what is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from hf_vipriors.reports.figure_files import to_png, to_svg
from hf_vipriors.reports.report_figures import INK, MUTED
from hf_vipriors.reports.table_plots import bars, curve_with_band, heatmap

NAN = math.nan


def drawn(axes):
    """The points of the lines that carry a name, by it."""
    return {line.get_label(): line.get_xydata() for line in axes.lines if not line.get_label().startswith("_")}


def heat(values, **options):
    values = np.asarray(values, dtype=float)
    rows, columns = ([f"{name}{i}" for i in range(n)] for name, n in zip("rc", values.shape, strict=True))
    return heatmap(values, rows, columns, title="t", xlabel="x", ylabel="y", **options)


def test_accuracies_are_written_in_percent_and_shaded_from_least_to_greatest():
    axes = heat([[0.80, 0.81], [0.82, NAN]]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["80.0", "81.0", "82.0"]
    image = axes.images[0].get_array()
    assert image[0, 0, 3] < image[0, 1, 3] < image[1, 0, 3] and image[1, 1, 3] == 0
    assert [label.get_text() for label in axes.get_yticklabels()] == ["r0", "r1"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")) == ("x", "y", "t")


def test_gains_are_shaded_by_their_distance_from_zero():
    axes = heat([[0.02, -0.02, 0.0]]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["+2.0", "−2.0", "+0.0"]
    image = axes.images[0].get_array()
    assert image[0, 0, 3] == image[0, 1, 3] > image[0, 2, 3] == 0
    assert image[0, 0, 2] > image[0, 0, 0] and image[0, 1, 0] > image[0, 1, 2]  # blue is more, orange less


def test_dark_cells_are_written_in_white():
    found = {text.get_text(): text.get_color() for text in heat([[0.1, 0.9]]).axes[0].texts}
    assert found == {"10.0": INK, "90.0": "#ffffff"}


@pytest.mark.parametrize("values", [[[0.5]], [[NAN]], [[0.5, 0.5]], np.full((3, 30), 0.5)], ids=str)
def test_odd_tables_can_be_drawn(values):
    assert to_png(heat(values))


def test_names_that_do_not_fit_the_values_are_refused():
    with pytest.raises(ValueError, match="2 x 1"):
        heatmap(np.zeros((1, 2)), ["a", "b"], ["c"], title="", xlabel="", ylabel="")


def test_a_curve_has_its_mean_in_percent_and_its_band():
    x = [5, 50, 250]
    lines = {"strict": (x, [0.05, 0.02, 0.0], [0.04, 0.01, -0.01], [0.06, 0.03, 0.01])}
    axes = curve_with_band(lines, title="t", xlabel="x", ylabel="y", log_x=True, zero_line=True).axes[0]
    assert drawn(axes)["strict"] == pytest.approx(np.array([[5, 5], [50, 2], [250, 0]]))
    (band,) = (each for each in axes.collections if isinstance(each, PolyCollection))
    assert band.get_datalim(axes.transData).get_points() == pytest.approx(np.array([[5, -1], [250, 6]]))
    assert axes.get_xscale() == "log" and [
        line.get_ydata()[0] for line in axes.lines if line.get_color() == MUTED
    ] == [0]
    # The measured places, as they are, and not powers of ten.
    axes.figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "50", "250"]


def test_a_curve_without_intervals_is_a_line():
    lines = {"a": ([1, 2], [0.5, 0.6], [NAN, NAN], [NAN, NAN])}
    figure = curve_with_band(lines, title="t", xlabel="x", ylabel="y")
    assert len(drawn(figure.axes[0])) == 1 and to_png(figure) and to_svg(figure, name="x", description="x")


def test_intervals_are_drawn_first_row_on_top_with_the_baseline_through_all():
    figure = bars(
        ["base", "new", "one seed"], [0.8, 0.83, 0.9], [0.79, 0.82, NAN], [0.81, 0.84, NAN], title="t", baseline=0
    )
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["base", "new", "one seed"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert [text.get_text() for text in axes.texts] == ["80.0", "83.0", "90.0"]
    spans = [line.get_xdata().tolist() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_alpha()]
    assert spans[:2] == [pytest.approx([79, 81]), pytest.approx([82, 84])]
    assert [list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == "--"] == [[80, 80]]


def test_without_a_baseline_no_line_claims_one():
    axes = bars(["a"], [0.8], [0.7], [0.9], title="t", baseline=None).axes[0]
    assert not [line for line in axes.lines if line.get_linestyle() == "--"]
