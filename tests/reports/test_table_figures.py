"""Plots of tables: each point is a row's own figure, and what is not measured is left out."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from hf_vipriors.errors import InputError
from hf_vipriors.reports.figure_files import to_png
from hf_vipriors.reports.table_figures import all_figures, check_plots, group_figure, plot_figures

MARGINS, NEGATIVES = (0.0, 0.4), (128, 256)


def row(name, mean, values, *, baseline=False, difference=None, series="moco", score="linear"):
    interval = [difference - 0.01, difference + 0.02] if difference is not None else None
    summary = {"mean": mean, "interval": [mean - 0.02, mean + 0.02]}
    summary |= {"difference": difference, "difference_interval": interval}
    described = {"name": name, "values": values, "series": series, "score": score, "metric": "top1"}
    return described | {"baseline": baseline, "summary": summary}


@pytest.fixture
def found():
    """A matrix of margin and negatives in one group, and a method beside its baseline at three numbers of images."""
    means = {(0.0, 128): 0.70, (0.0, 256): 0.72, (0.4, 128): 0.69, (0.4, 256): 0.75}
    matrix = [
        row(f"{m} {n}", mean, {"margin": m, "negatives": n}, difference=mean - 0.70 if (m, n) != (0.0, 128) else None)
        for (m, n), mean in means.items()
    ]
    matrix[0]["baseline"] = True
    groups = [{"title": "Linear probe", "series": "Linear probe", "values": {}, "rows": matrix}]
    for images, base, gain in ((5, 0.50, 0.10), (50, 0.70, 0.05), (10, 0.60, 0.08)):
        values = {"images": images}
        rows = [
            row("tuned", base, values, baseline=True, series="tuned", score="test"),
            row("ours", base + gain, values, difference=gain, series="ours", score="test"),
        ]
        title = f"{images} images"
        groups.append({"title": title, "series": "$images images", "values": values, "rows": rows})
    return {"groups": groups, "plots": []}


def only(found, **plot):
    """The axes of the one plot."""
    found["plots"] = [{"title": "P", **plot}]
    check_plots(found["plots"], found["groups"])
    ((title, figure),) = plot_figures(found).values()
    assert title == "P" and to_png(figure).startswith(b"\x89PNG")
    return figure.axes[0]


def test_each_cell_of_a_heatmap_is_its_row(found):
    axes = only(found, kind="heatmap", x="negatives", y="margin")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["128", "256"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.0", "0.4"]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "70.0", (1, 0): "72.0", (0, 1): "69.0", (1, 1): "75.0"}


def test_a_heatmap_of_gains_has_none_at_the_baseline(found):
    axes = only(found, kind="heatmap", x="negatives", y="margin", value="gain")
    texts = {text.get_position(): text.get_text().replace("−", "-") for text in axes.texts}
    assert texts == {(0, 0): "+0.0", (1, 0): "+2.0", (0, 1): "-1.0", (1, 1): "+5.0"}


def test_a_cell_that_was_not_run_stays_empty(found):
    del found["groups"][0]["rows"][3]
    axes = only(found, kind="heatmap", x="negatives", y="margin")
    assert len(axes.texts) == 3


def test_a_curve_over_groups_rises_in_x(found):
    axes = only(found, kind="curve", x="images", log_x=True, rows=["tuned", "ours"])
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["tuned"] == [[5, 50], [10, 60], [50, 70]]
    assert np.allclose(lines["ours"], [[5, 60], [10, 68], [50, 75]]) and axes.get_xscale() == "log"


def test_a_curve_of_gains_leaves_the_baseline_out(found):
    axes = only(found, kind="curve", x="images", value="gain")
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines if len(line.get_xdata()) == 3}
    assert list(lines) == ["ours"] and np.allclose(lines["ours"], [[5, 10], [10, 8], [50, 5]])
    (band,) = axes.collections
    assert np.isclose(band.get_paths()[0].vertices[:, 1].max(), 12) and "baseline" in axes.get_ylabel()


def test_accuracy_over_steps_is_the_mean_in_the_range_of_the_seeds(found):
    ours = found["groups"][1]["rows"][1]
    ours["over_steps"] = {"steps": [100, 200], "top1": [[0.3, 0.5], [0.5, 0.5], [0.4, 0.65]]}
    axes = only(found, kind="steps", group="$images images")
    (line,), (band,) = axes.lines, axes.collections
    assert np.allclose(line.get_xydata(), [[100, 40], [200, 55]]) and line.get_label() == "ours (5 images)"
    assert np.allclose([band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()], [30, 65])
    (line,) = only(found, kind="steps", group="5 images").lines
    assert line.get_label() == "ours", "one group of a matrix, by the title that it gets"
    found["plots"][0]["group"] = "Linear probe"
    assert not plot_figures(found), "nothing was evaluated there"


def test_other_axes_make_lines_of_their_own(found):
    axes = only(found, kind="curve", x="margin")
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines == {"negatives 128": [[0, 70], [0.4, 69]], "negatives 256": [[0, 72], [0.4, 75]]}
    assert axes.get_ylabel() == "linear probe top-1, %"


def test_a_lone_point_beside_lines_is_left_out(found):
    found["groups"][0]["rows"].append(row("more", 0.8, {"margin": 0.4, "negatives": 512}))
    axes = only(found, kind="curve", x="margin")
    assert [line.get_label() for line in axes.lines] == ["negatives 128", "negatives 256"]
    found["groups"][0]["rows"] = found["groups"][0]["rows"][2:4]
    assert len(only(found, kind="curve", x="margin").lines) == 2, "points alone are better than nothing"


@pytest.mark.parametrize("kind", [{"kind": "heatmap", "y": "negatives"}, {"kind": "curve"}])
def test_two_rows_on_one_place_are_refused(found, kind):
    again = {**found["groups"][0], "title": "kNN", "series": "kNN"}
    found["groups"].append(again)
    with pytest.raises(InputError, match="two rows fall on .*choose by group or rows"):
        only(found, x="margin", **kind)
    assert only(found, x="margin", group="kNN", **kind)


def test_bars_of_some_rows(found):
    axes = only(found, kind="bars", group="$images images", rows=["ours"])
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["ours (5 images)", "ours (50 images)", "ours (10 images)"]
    whole = group_figure(found["groups"][1]).axes[0]
    assert [label.get_text() for label in whole.get_yticklabels()] == ["tuned", "ours"]


def test_each_group_has_a_image_and_plots_beside_them(found):
    found["plots"] = [{"title": "Gain!", "kind": "curve", "x": "images", "value": "gain"}]
    assert list(all_figures(found)) == ["linear-probe", "5-images", "50-images", "10-images", "gain"]


def test_groups_of_like_or_long_titles_have_files_of_their_own(found):
    found["groups"] = [found["groups"][0] | {"title": title} for title in ("A (%)", "A", "long " * 60, "long " * 70)]
    names = list(all_figures(found))
    assert names[:2] == ["a", "a-2"] and len(set(names)) == 4 and max(map(len, names)) < 130


def test_a_part_of_a_table_lacks_the_plots_that_have_no_rows(found):
    found["plots"] = [{"title": "Gain", "kind": "curve", "x": "images"}]
    found["groups"] = found["groups"][:1]
    assert plot_figures(found) == {}
    found["plots"] = [{"title": "Gone", "kind": "bars", "group": "$images images"}]
    assert plot_figures(found) == {}


def test_drawing_changes_nothing(found):
    found["plots"] = [{"title": "H", "kind": "heatmap", "x": "margin", "y": "negatives"}]
    before = copy.deepcopy(found)
    all_figures(found)
    assert found == before
