"""The drawings: what they hold, how they follow the theme, and the map of features."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch

from hf_vipriors.reports import report_figures as figures
from hf_vipriors.reports.figure_files import to_svg
from hf_vipriors.reports.report_rows import Curve
from hf_vipriors.reports.table_plots import curve_with_band


def texts(figure) -> list[str]:
    svg = to_svg(figure, name="x", description="a drawing")
    root = ElementTree.fromstring(svg)
    return ["".join(element.itertext()).strip() for element in root.iter() if element.tag.endswith("text")]


def test_curves_show_names_axes_and_the_chance_level():
    panel = [
        Curve("MoCo", [0, 10, 20], [9.0, 8.0, 7.0], "contrastive loss", chance=8.24),
        Curve("SimCLR", [0, 10, 20], [5.0, 4.0, 3.0], "contrastive loss", chance=5.54),
    ]
    figure = figures.curves_figure(panel)
    axes = figure.axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[0, 9], [10, 8], [20, 7]]
    assert axes.lines[0].get_color() != axes.lines[1].get_color()
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()
    chance = [line for line in axes.lines if str(line.get_label()).startswith("chance")]
    assert [set(line.get_ydata()) for line in chance] == [{5.54}, {8.24}]
    assert all(line.get_linestyle() == "--" for line in chance)
    assert {"MoCo", "SimCLR", "step", "contrastive loss", "chance level 8.24"} <= set(texts(figure))


def test_a_curve_of_one_point_can_be_seen():
    assert figures.curves_figure([Curve("a", [3], [0.5], "loss")]).axes[0].lines[0].get_marker() == "o"


def test_confusion_shades_by_share_of_the_true_class_and_counts_images():
    counts = np.array([[90, 10, 0], [1, 1, 0], [0, 0, 0]])
    figure = figures.confusion_figure(counts, ["cat", "dog", "owl"])
    alpha = figure.axes[0].images[0].get_array()[..., 3]
    assert alpha[1, 0] == alpha[1, 1] > alpha[0, 1] > alpha[0, 2] == 0
    assert not alpha[2].any()  # a class without images divides by nothing
    written = texts(figure)
    assert {"90", "10", "cat", "owl", "true class", "predicted class"} <= set(written)
    assert written.count("1") == 2 and "0" not in written


def test_a_thousand_classes_are_drawn_without_names():
    names = [f"class {number}" for number in range(1000)]
    written = texts(figures.confusion_figure(np.eye(1000, dtype=int), names))
    assert len(written) < 60 and "class 7" not in written


def test_classes_are_drawn_worst_first():
    figure = figures.per_class_figure({"cat": 0.9, "dog": 0.4, "owl": None})
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["cat", "dog"]  # drawn from the bottom up
    assert [bar.get_width() for bar in axes.patches] == [90, 40]
    many = {f"class {number}": number / 100 for number in range(100)}
    assert [label.get_text() for label in figures.per_class_figure(many).axes[0].get_yticklabels()][-1] == "class 0"
    assert len(figures.per_class_figure(many).axes[0].patches) == 25


def test_long_names_that_differ_at_the_end_stay_apart():
    names = {f"a very long class name, number {number}": 0.5 for number in range(3)}
    shown = [label.get_text() for label in figures.per_class_figure(names).axes[0].get_yticklabels()]
    assert len(set(shown)) == 3 and max(map(len, shown)) == 16


def test_the_map_draws_every_point_once_with_a_mark_of_its_class():
    rng = np.random.default_rng(0)
    positions, labels = rng.normal(size=(200, 2)), np.arange(200) % 10
    figure = figures.feature_map_figure(positions, labels, [f"name {number}" for number in range(10)])
    groups = figure.axes[0].collections
    assert sum(len(group.get_offsets()) for group in groups) == 200
    marks = {(tuple(group.get_facecolor()[0]), group.get_paths()[0].vertices.tobytes()) for group in groups}
    assert len(marks) == 10
    assert np.allclose(groups[3].get_offsets(), positions[labels == 3])
    assert {f"name {number}" for number in range(10)} <= set(texts(figure))


def test_the_first_ninety_classes_have_marks_of_their_own():
    marks = {
        (figures.SERIES[label % len(figures.SERIES)], figures.MARKERS[label % len(figures.MARKERS)])
        for label in range(90)
    }
    assert len(marks) == 90 and len(set(figures.MARKERS)) == len(figures.MARKERS)


def test_unlabelled_points_are_named_as_such():
    figure = figures.feature_map_figure(np.zeros((2, 2)), [-1, 0], ["cat"])
    assert "unlabelled" in texts(figure)


def test_drawing_leaves_pyplot_alone():
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


# --- the map of features --------------------------------------------------------------------------------------------


def test_the_map_keeps_clusters_apart_and_is_the_same_for_a_seed():
    rng = np.random.default_rng(0)
    centres = np.eye(16)[:3] * 4
    labels = np.arange(90) % 3
    features = torch.tensor(centres[labels] + 0.3 * rng.normal(size=(90, 16)))
    found = figures.feature_map_2d(features, 0)
    assert found.shape == (90, 2) and found.dtype == np.float32 and np.isfinite(found).all()
    distances = np.linalg.norm(found[:, None] - found[None], axis=2) + 1e9 * np.eye(90)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    assert np.array_equal(found, figures.feature_map_2d(features.numpy(), 0))


def test_the_map_sees_directions_not_lengths():
    features = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    lengths = 2.0 ** torch.arange(-10, 10)[:, None]  # powers of two: exactly the same directions
    assert np.array_equal(figures.feature_map_2d(features, 1), figures.feature_map_2d(features * lengths, 1))


@pytest.mark.parametrize("count", [2, 3, 5, 31])
@pytest.mark.parametrize("width", [1, 8])
def test_few_images_can_be_mapped(count, width):
    features = torch.randn(count, width, generator=torch.Generator().manual_seed(0))
    found = figures.feature_map_2d(features)
    assert found.shape == (count, 2) and np.isfinite(found).all()


def test_collapsed_features_map_to_one_point():
    assert not figures.feature_map_2d(torch.ones(40, 8) * torch.arange(1, 41)[:, None]).any()


@pytest.mark.parametrize("bad", [torch.ones(1, 4), torch.ones(4), torch.full((5, 4), float("nan")), torch.ones(5, 0)])
def test_features_that_cannot_be_mapped_are_refused(bad):
    with pytest.raises(ValueError):
        figures.feature_map_2d(bad)


def test_names_that_begin_with_an_underscore_stand_in_the_legend():
    """Matplotlib takes them for lines that are not to be named."""
    names = ["__background__", "cat"]
    drawn = figures.feature_map_figure(np.eye(2), [0, 1], names)
    assert [text.get_text() for text in drawn.axes[0].get_legend().get_texts()] == names
    curves = figures.curves_figure([Curve(name, [1, 2], [0.5, 0.6], "loss") for name in names])
    assert [text.get_text() for text in curves.axes[0].get_legend().get_texts()] == names
    lines = {name: ([1, 2], [0.5, 0.6], [0.4, 0.5], [0.6, 0.7]) for name in names}
    band = curve_with_band(lines, title="t", xlabel="x", ylabel="y", zero_line=True)
    assert [text.get_text() for text in band.axes[0].get_legend().get_texts()] == names
