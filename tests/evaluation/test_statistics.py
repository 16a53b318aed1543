"""Intervals and the paired test: published values, hand counts, and coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_vipriors.evaluation.statistics import (
    difference_interval,
    mcnemar,
    mean_interval,
    paired_difference_interval,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3 (Wilson without continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_agrees_with_the_published_examples(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_solves_the_equation_it_is_defined_by():
    # Its ends are the p with |s/n - p| = z sqrt(p (1 - p) / n).
    z = 1.6448536269514722
    for end in wilson_interval(30, 50, level=0.90):
        assert abs(30 / 50 - end) == pytest.approx(z * math.sqrt(end * (1 - end) / 50), rel=1e-9)


def test_wilson_interval_stays_within_0_and_1_at_the_ends():
    assert wilson_interval(0, 7)[0] == 0.0
    assert wilson_interval(7, 7)[1] == 1.0
    assert wilson_interval(1, 1)[0] > 0.2


def test_wilson_interval_narrows_with_images_and_widens_with_the_level():
    def width(*args):
        low, high = wilson_interval(*args)
        return high - low

    assert width(800, 1000) < width(80, 100) < width(80, 100, 0.99)


def test_mean_interval_by_hand():
    # 0.80 0.82 0.84: standard deviation 0.02, standard error 0.02/sqrt(3), t(0.975, 2) = 4.302653.
    half = 4.302653 * 0.02 / math.sqrt(3)
    assert mean_interval([0.80, 0.82, 0.84]) == pytest.approx((0.82 - half, 0.82 + half), abs=1e-6)


def test_a_spread_below_what_is_measured_counts_as_that():
    half = 12.706205 * 0.01 / math.sqrt(2)  # t(0.975, 1), a hundred test images
    assert mean_interval([0.04, 0.04], resolution=0.01) == pytest.approx((0.04 - half, 0.04 + half), abs=1e-6)
    assert mean_interval([0.02, 0.06], resolution=0.01) == mean_interval([0.02, 0.06])


def test_a_single_seed_has_no_interval():
    assert mean_interval([0.8]) is None


def test_difference_interval_agrees_with_the_published_example():
    # Newcombe, Statistics in Medicine 17 (1998) 873, table II (a), method 10.
    assert difference_interval(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_difference_interval_turns_around_when_the_models_are_swapped():
    low, high = difference_interval(170, 200, 150, 200)
    assert difference_interval(150, 200, 170, 200) == pytest.approx((-high, -low))


def test_paired_interval_by_hand():
    # 10 images: 4 right in a alone, 1 in b alone. p = 5/12 and 2/12, as Bonett and Price add one to each.
    a = np.array([True] * 4 + [False] + [True] * 5)
    b = np.array([False] * 4 + [True] + [True] * 5)
    half = 1.959964 * math.sqrt((7 / 12 - (3 / 12) ** 2) / 12)
    assert paired_difference_interval(a, b) == pytest.approx((0.25 - half, 0.25 + half), abs=1e-6)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = np.zeros(4)
    rounds = 400
    for _ in range(rounds):
        hard = rng.random(200)
        a, b = hard < 0.85, (hard < 0.80) ^ (rng.random(200) < 0.02)
        truth_b = 0.80 * 0.98 + 0.20 * 0.02
        low, high = wilson_interval(int(a.sum()), 200)
        hits[0] += low <= 0.85 <= high
        low, high = paired_difference_interval(a, b)
        hits[1] += low <= 0.85 - truth_b <= high
        other = rng.random(200) < 0.80
        low, high = difference_interval(int(a.sum()), 200, int(other.sum()), 200)
        hits[2] += low <= 0.05 <= high
        low, high = mean_interval(rng.normal(0.8, 0.01, 3))
        hits[3] += low <= 0.8 <= high
    assert (hits / rounds > 0.92).all() and (hits / rounds < 0.985).all(), hits / rounds


def test_mcnemar_by_hand():
    # 6 to 1 among the images where one alone is right: 2 (C(7,0) + C(7,1)) / 2^7 = 16/128.
    a = np.array([True] * 6 + [False] + [True] * 20 + [False] * 5)
    b = np.array([False] * 6 + [True] + [True] * 20 + [False] * 5)
    assert mcnemar(a, b) == pytest.approx(16 / 128)
    assert mcnemar(b, a) == pytest.approx(16 / 128)


def test_mcnemar_of_equal_answers_is_one():
    assert mcnemar([True, False], [True, False]) == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson_interval(3, 0),
        lambda: wilson_interval(-1, 5),
        lambda: wilson_interval(6, 5),
        lambda: wilson_interval(3, 5, level=95),
        lambda: mean_interval([]),
        lambda: mean_interval([0.8, float("nan")]),
        lambda: mean_interval([0.8, 0.9], level=0),
        lambda: mcnemar([True], [True, False]),
        lambda: mcnemar([], []),
        lambda: mcnemar([3, 1], [3, 2]),
        lambda: paired_difference_interval([True], [True], level=1),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError):
        call()
