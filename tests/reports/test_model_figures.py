"""Images of models: what is drawn where, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest

from hf_vipriors.reports.model_figures import learning_curves, reliability_diagram


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
    # Ten predictions at 75 %, six of them right; ten at 95 %, all right.
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
