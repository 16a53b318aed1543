"""What the numbers of a report say: intervals, differences to the baseline, the verdict in words, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hf_vipriors.evaluation.statistics import (
    difference_interval,
    mcnemar,
    mean_interval,
    paired_difference_interval,
    wilson_interval,
)
from hf_vipriors.reports.report import (
    Curve,
    Report,
    RunRow,
    caveats,
    html,
    markdown,
    summarise,
    to_dict,
    verdict_lines,
)


def row(name, top1, *, images=2000, **options):
    return RunRow(name, options.pop("note", ""), list(top1), options.pop("top5", None), images, [60.0], **options)


def small(*rows, **options):
    return Report("Title", "subtitle", list(rows), **options)


# --- what the numbers say -------------------------------------------------------------------------------------------


def test_one_seed_has_the_wilson_interval_and_the_difference_of_separate_proportions():
    baseline, better = summarise(small(row("base", [0.80], baseline=True), row("new", [0.84])))
    assert baseline.interval == wilson_interval(1600, 2000)
    assert baseline.difference is None and baseline.outcome is None
    assert better.difference == pytest.approx(0.04)
    assert better.difference_interval == difference_interval(1680, 2000, 1600, 2000)
    assert (better.comparison, better.outcome, better.p_value) == ("separate images", "better", None)


def test_one_seed_with_answers_per_image_is_compared_in_pairs():
    base = np.arange(2000) < 1600
    new = np.arange(2000) < 1630
    rows = row("base", [0.80], baseline=True, correct=[base]), row("new", [0.815], correct=[new])
    found = summarise(small(*rows))[1]
    assert found.difference_interval == paired_difference_interval(new, base)
    assert found.p_value == mcnemar(new, base)
    assert (found.comparison, found.outcome) == ("paired images", "better")
    # The same accuracies without the pairing show nothing.
    assert summarise(small(row("base", [0.80], baseline=True), row("new", [0.815])))[1].outcome == "unclear"


def test_several_seeds_are_compared_seed_by_seed():
    base, new = [0.80, 0.82, 0.84], [0.81, 0.83, 0.852]
    found = summarise(small(row("base", base, baseline=True), row("new", new)))
    assert found[0].top1 == pytest.approx(0.82)
    assert found[0].interval == mean_interval(base)
    assert found[1].difference == pytest.approx((0.01 + 0.01 + 0.012) / 3)
    assert found[1].difference_interval == pytest.approx(mean_interval([0.01, 0.01, 0.012]))
    # The spread over seeds is shared, so the pairs tell the two apart although the intervals overlap.
    assert found[1].outcome == "better"


def test_few_seeds_that_are_equal_by_luck_show_nothing():
    """Both gained the same four of 114 images."""
    base, new = ([right / 114 for right in counts] for counts in ((30, 50), (34, 54)))
    found = summarise(small(row("base", base, images=114, baseline=True), row("new", new, images=114)))[1]
    assert found.difference == pytest.approx(4 / 114) and found.outcome == "unclear"


def test_an_interval_of_accuracies_stays_within_0_and_1():
    assert [each.interval for each in summarise(small(row("low", [0.01, 0.03]), row("high", [1.0, 0.9])))] == [
        (0.0, pytest.approx(0.147, abs=1e-3)),
        (pytest.approx(0.315, abs=1e-3), 1.0),
    ]


def test_images_without_a_test_split_are_called_what_they_are():
    for values in ([0.8], [0.8, 0.9]):
        report = small(row("base", values, baseline=True), scored="validation")
        said = " ".join(caveats(report))
        assert "validation images" in said and "test images" not in said and "No independent test split" in said
        assert "share of validation images" in html(report)
    assert "independent" not in " ".join(caveats(small(row("base", [0.8]))))


def test_unequal_numbers_of_seeds_give_no_interval_and_no_conclusion():
    report = small(row("base", [0.80, 0.82], baseline=True), row("new", [0.95]))
    found = summarise(report)[1]
    assert found.difference == pytest.approx(0.14)
    assert found.difference_interval is None and found.outcome == "unclear"
    assert "no conclusion" in verdict_lines(report)[0]


def test_the_verdict_says_it_when_the_method_wins_loses_or_shows_nothing():
    report = small(
        row("base", [0.80], baseline=True), row("winner", [0.84]), row("loser", [0.76]), row("same", [0.805])
    )
    won, lost, same = verdict_lines(report)
    assert won == "winner beats base by 4.0 points (95 % interval +1.6 to +6.4, excludes zero)."
    assert lost == "loser loses to base by 4.0 points (95 % interval -6.6 to -1.4, excludes zero)."
    assert (
        same == "same is 0.5 points above base; the 95 % interval (-2.0 to +3.0) includes zero: no difference shown."
    )


def test_a_lower_and_an_equal_value_within_the_noise_are_worded_as_such():
    lower, equal = verdict_lines(small(row("base", [0.8], baseline=True), row("a", [0.799]), row("b", [0.8])))
    assert lower.startswith("a is 0.1 points below base;") and "includes zero" in lower
    assert equal.startswith("b is level with base;") and "-0.0" not in equal


def test_without_a_baseline_nothing_is_claimed():
    report = small(row("new", [0.99]))
    assert verdict_lines(report) == [
        "No supervised baseline was measured, so nothing here says whether the method helps."
    ]
    assert "beats" not in markdown(report) + html(report)


def test_the_measured_verdict_stands_whatever_the_author_adds():
    report = small(row("base", [0.80], baseline=True), row("loser", [0.70]), verdict=["A great success."])
    for text in (markdown(report), html(report).replace("−", "-"), json.dumps(to_dict(report))):
        assert "loser loses to base by 10.0 points" in text
        assert text.index("loser loses") < text.index("A great success.")


def test_an_author_who_passes_the_measured_lines_does_not_get_them_twice():
    report = small(row("base", [0.80], baseline=True), row("new", [0.9]))
    report.verdict = [*verdict_lines(report), "One more."]
    assert markdown(report).count("beats base") == 1
    assert "One more." in markdown(report)


def test_caveats_tell_seeds_from_test_images():
    one = " ".join(caveats(small(row("base", [0.8], baseline=True), row("new", [0.9]))))
    assert "One seed" in one and "t-interval" not in one
    many = " ".join(caveats(small(row("base", [0.8, 0.8], baseline=True))))
    assert "2 seeds" in many and "2,000 test images" in many and "±1.8 points" in many


# --- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda: row("percent", [82.6]),
        lambda: row("none", []),
        lambda: row("nan", [float("nan")]),
        lambda: row("top5", [0.8, 0.9], top5=[0.9]),
        lambda: row("images", [0.8], images=0),
        lambda: row("answers", [0.8], correct=[np.ones(3, dtype=bool)]),
        lambda: row("seeds", [0.8, 0.9], correct=[np.ones(2000, dtype=bool)]),
        lambda: Curve("empty", [], [], "loss"),
        lambda: Curve("lengths", [1, 2], [1.0], "loss"),
        lambda: small(row("a", [0.8], baseline=True), row("b", [0.8], baseline=True)),
        lambda: small(row("a", [0.8]), row("a", [0.9])),
        lambda: small(row("a", [0.8]), class_names=["x"], confusion=[[1, 0], [0, 1]]),
        lambda: small(row("a", [0.8]), feature_map=(np.zeros((3, 2)), [0, 1])),
    ],
    ids=range(13),
)
def test_what_would_make_a_wrong_table_is_refused(build):
    with pytest.raises(ValueError):
        build()
