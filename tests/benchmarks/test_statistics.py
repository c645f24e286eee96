# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Crossings, ratios and power on numbers that can be worked out by hand."""
import math

import numpy as np
import pytest

from mmeffmae.benchmarks.statistics import (
    DETECTABLE,
    crossing,
    mean_difference,
    ratio_of_medians,
    resolved,
    target_value,
    value_at,
)


def test_target():
    # 95 % of the way from 40 to 60.
    assert target_value(40.0, 60.0) == pytest.approx(59.0)


@pytest.mark.parametrize('values, expected', [
    ([40, 50, 56, 60, 64], 87.5),  # half way between the points at 75 and 100
    ([40, 62, 50, 60, 64], 25 * 22 / 22),  # the first of two crossings
    ([62, 50, 50, 50, 50], 0.0),
    ([40, 50, 56, 60, 61.9], math.inf),
])
def test_crossing(values, expected):
    assert crossing([0, 25, 50, 75, 100], values, 62.0) == expected


def test_value_between_points():
    assert value_at([0, 10, 30], [1, 3, 7], 15) == 4.0
    with pytest.raises(ValueError, match='ends at 30, before 31'):
        value_at([0, 10, 30], [1, 3, 7], 31)


def test_ratio_of_medians_and_its_interval():
    ratio, interval = ratio_of_medians([10, 20, 60], [40, 40, 40])
    assert ratio == 0.5
    # A resample of three has the median 10 with probability 7/27, 20 with
    # 13/27 and 60 with 7/27, each above 2.5 %.
    assert interval == (0.25, 1.5)
    assert ratio_of_medians([10, 20, 60], [40, 40, 40])[1] == interval


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        candidate, baseline = rng.normal(100, 10, (2, 15))
        low, high = ratio_of_medians(candidate, baseline, 500)[1]
        hits += low <= 1 <= high
    assert 180 <= hits <= 200


def test_seeds_that_never_reach_the_target():
    inf = math.inf
    ratio, (low, high) = ratio_of_medians([10, 20, inf], [40, 40, 40])
    assert (ratio, low, high) == (0.5, 0.25, inf)
    ratio, (low, high) = ratio_of_medians([inf, inf, inf], [40, 40, inf])
    assert ratio == inf and high == inf
    # Where both may be infinite, nothing is known.
    ratio, interval = ratio_of_medians([inf, inf], [inf, inf])
    assert math.isnan(ratio) and interval == (0.0, inf)


def test_one_seed_has_no_interval():
    assert ratio_of_medians([10], [40, 50]) == (10 / 45, None)


def test_power():
    # Standard deviation 1 each; three seeds show 3.07 of them.
    three = np.array([-1.0, 0.0, 1.0])
    assert resolved(three + 3.1, three) and not resolved(three + 3.0, three)
    five = np.array([-1, -1, 0, 1, 1.0])  # also 1
    assert resolved(five + 2.1, five) and not resolved(five - 2.0, five)
    assert not resolved(three + 2.1, five), 'the smaller number of seeds counts'
    assert not resolved([5.0], [1.0])


@pytest.mark.parametrize('seeds', [3, 5, 8])
def test_table_of_power(seeds):
    """80 % of experiments at that distance have p < 5 %."""
    stats = pytest.importorskip('scipy.stats')
    rng = np.random.default_rng(seeds)
    shape = (2, 4000, seeds)
    a, b = rng.normal(size=shape)
    p = stats.ttest_ind(a + DETECTABLE[seeds], b, axis=1).pvalue
    assert abs((p < 0.05).mean() - 0.8) < 0.03


def test_difference_of_means_and_its_interval():
    # Sum of squares 2 over 4 degrees of freedom: 2.776 * sqrt(0.5 * 2 / 3).
    difference, interval = mean_difference([1, 2, 3], [0, 0, 0])
    assert difference == 2
    assert interval == pytest.approx((2 - 1.60273, 2 + 1.60273), abs=1e-4)
    # One seed against three borrows their spread: 4.303 * sqrt(1 * 4 / 3).
    _, (low, high) = mean_difference([5], [0, 1, 2])
    assert (low + high) / 2 == 4 and high - 4 == pytest.approx(4.9687, abs=1e-3)
    assert mean_difference([5], [3]) == (2.0, None)
