"""Pictures of models and of tables: what is drawn where, and what is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from hf_vipriors.evaluation.figure_files import to_png, to_svg
from hf_vipriors.evaluation.model_figures import (
    bars,
    curve_with_band,
    heatmap,
    learning_curves,
    reliability_diagram,
)
from hf_vipriors.evaluation.report_figures import INK, MUTED

NAN = math.nan


def named(axes):
    """The lines that carry a name, by it."""
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def levels(axes):
    return [text.get_text() for text in axes.texts]


# --- learning curves ------------------------------------------------------------------------------------------------

STUDENT = [
    {"epoch": 1.0, "loss": 2.0, "step": 5},
    {"epoch": 2.0, "loss": 1.0, "step": 10},
    {"epoch": 2.0, "eval_top1": 0.6, "eval_loss": 1.3, "step": 10},
    {"epoch": 2.0, "train_loss": 1.5, "train_runtime": 3.0, "step": 10},
]
TEACHER = [
    {"epoch": 1.0, "loss": 9.0},
    {"epoch": 1.0, "eval_knn_top1": 0.5, "eval_peer_knn_top1": 0.4},
    {"epoch": 2.0, "eval_knn_top1": 0.7, "eval_peer_knn_top1": 0.6},
]


def test_each_run_is_drawn_where_it_logged_something():
    figure = learning_curves({"student": STUDENT, "teacher": TEACHER})
    loss, top1, knn = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "training loss",
        "validation top-1, %",
        "online kNN top-1, %",
    ]
    assert named(loss)["student"].get_xydata().tolist() == [[1, 2], [2, 1]]
    assert set(named(loss)) == {"student", "teacher"} and set(named(top1)) == {"student"}
    assert named(knn)["teacher"].get_ydata() == pytest.approx([50, 70])
    assert named(knn)["teacher, peer"].get_ydata() == pytest.approx([40, 60])
    # A point alone is no line: without a mark it could not be seen.
    assert named(top1)["student"].get_marker() == "o" and named(loss)["student"].get_marker() == "None"


def test_a_run_looks_the_same_in_every_panel_and_is_named_once():
    figure = learning_curves({"student": STUDENT, "peers": TEACHER + STUDENT[2:3]})
    loss, top1, knn = figure.axes
    looks = [(named(axes)["peers"].get_color(), named(axes)["peers"].get_linestyle()) for axes in (loss, top1, knn)]
    assert len(set(looks)) == 1 and looks[0][0] != named(loss)["student"].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["student", "peers", "peers, peer"]


def test_chance_levels_stand_where_they_belong():
    loss, top1, knn = learning_curves({"s": STUDENT, "t": TEACHER}, chance={"t": 9.7}, classes=4).axes
    assert levels(loss) == ["chance 9.7"] and levels(top1) == levels(knn) == ["chance 25"]
    assert [list(line.get_ydata()) for line in top1.lines if line.get_linestyle() == "--"] == [[25, 25]]


def test_losses_a_hundredfold_apart_share_a_logarithmic_axis():
    far = [{"epoch": 1.0, "loss": 150.0}, {"epoch": 2.0, "loss": 30.0}]
    assert learning_curves({"a": STUDENT, "b": far}).axes[0].get_yscale() == "log"
    assert learning_curves({"a": STUDENT}).axes[0].get_yscale() == "linear"
    # A loss may be negative, which a logarithm cannot show.
    below = [{"epoch": 1.0, "loss": -0.9}, {"epoch": 2.0, "loss": 100.0}]
    assert learning_curves({"a": below}).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("histories", [{}, {"a": []}, {"a": [{"epoch": 1.0, "train_runtime": 3.0}]}])
def test_nothing_logged_is_no_figure(histories):
    assert learning_curves(histories) is None


# --- reliability ----------------------------------------------------------------------------------------------------


def test_a_bar_is_as_high_as_its_bin_is_right():
    # Ten answers at 75 %, six of them right; ten at 95 %, all right.
    first = np.repeat([[0.75, 0.25], [0.95, 0.05]], 10, axis=0)
    labels = np.array([0] * 6 + [1] * 4 + [0] * 10)
    axes = reliability_diagram({"student": (first, labels)}, bins=10).axes[0]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([60, 100])
    middles = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
    assert middles == pytest.approx([75, 95])
    # 0.5 * |0.6 - 0.75| + 0.5 * |1 - 0.95|
    assert axes.get_title(loc="left") == "student\nECE 10.0 %"


def test_full_bins_are_stronger_than_nearly_empty_ones():
    rows = np.array([[0.55, 0.45]] + [[0.95, 0.05]] * 9)
    weak, strong = reliability_diagram({"a": (rows, np.zeros(10, int))}).axes[0].patches
    assert weak.get_alpha() < strong.get_alpha()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_every_model_has_its_diagram(count):
    rows, labels = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])
    figure = reliability_diagram({f"model {number}": (rows, labels) for number in range(count)})
    titles = [axes.get_title(loc="left").splitlines()[0] for axes in figure.axes]
    assert titles == [f"model {number}" for number in range(count)]


def test_logits_are_refused():
    with pytest.raises(ValueError, match="softmax"):
        reliability_diagram({"a": (np.array([[3.0, -2.0]]), np.array([0]))})


# --- tables ---------------------------------------------------------------------------------------------------------


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
    assert named(axes)["strict"].get_xydata() == pytest.approx(np.array([[5, 5], [50, 2], [250, 0]]))
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
    assert len(named(figure.axes[0])) == 1 and to_png(figure) and to_svg(figure, name="x", description="x")


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
