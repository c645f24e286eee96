# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Numbers of a comparison: crossings, ratios of medians, power."""
import math
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

#: Difference of two means, in standard deviations, that a two-sided t test at
#: 5 % finds with 80 % power, by the number of seeds of each arm.
DETECTABLE = {2: 5.65, 3: 3.07, 4: 2.38, 5: 2.02, 6: 1.8, 7: 1.63, 8: 1.51}

#: 97.5 % quantile of Student's t, by degrees of freedom.
_STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365,
            8: 2.306, 9: 2.262, 10: 2.228, 11: 2.201, 12: 2.179, 13: 2.160,
            14: 2.145}


def target_value(untrained: float, final: float, share: float = 0.95) -> float:
    """Untrained + share × (final − untrained)."""
    return untrained + share * (final - untrained)


def crossing(
    positions: Sequence[float], values: Sequence[float], target: float
) -> float:
    """Where a curve first reaches the target.

    Args:
        positions: Ascending.
        values: The curve there, linear in between.
        target: Value to reach.

    Returns:
        The position; infinity if it never does.
    """
    if values[0] >= target:
        return float(positions[0])
    for i in range(1, len(values)):
        if values[i] >= target:
            share = (target - values[i - 1]) / (values[i] - values[i - 1])
            return positions[i - 1] + share * (positions[i] - positions[i - 1])
    return math.inf


def value_at(
    positions: Sequence[float], values: Sequence[float], position: float
) -> float:
    """The curve at a position, linear in between.

    Raises:
        ValueError: The curve does not reach the position.
    """
    # The same amount comes out of different products for different arms.
    if position > positions[-1] * (1 + 1e-9):
        raise ValueError(f'the curve ends at {positions[-1]:g}, before {position:g}')
    return float(np.interp(position, positions, values))


def ratio_of_medians(
    candidate: Sequence[float],
    baseline: Sequence[float],
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, Optional[tuple[float, float]]]:
    """Median of one arm over the median of the other.

    The interval is the percentile bootstrap over seeds, each arm resampled
    on its own. A seed that never reached the target counts as infinity; a
    resample that compares infinity with infinity could be anything and widens
    the interval on both sides.

    Args:
        candidate: Time to target of every seed.
        baseline: The same of the other arm.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        The ratio, NaN for infinity over infinity, and the 95 % interval; None
        if an arm has a single seed.
    """
    ratio = float(_ratio(np.median(candidate), np.median(baseline)))
    if min(len(candidate), len(baseline)) < 2:
        return ratio, None
    generator = np.random.default_rng(seed)
    medians = [
        np.median(generator.choice(times, (resamples, len(times))), axis=1)
        for times in (np.asarray(candidate), np.asarray(baseline))
    ]
    ratios = _ratio(*medians)
    low, high = (
        np.quantile(
            np.where(np.isnan(ratios), worst, ratios), level,
            method='inverted_cdf')
        for worst, level in ((0.0, 0.025), (math.inf, 0.975)))
    return ratio, (float(low), float(high))


def _ratio(numerator: Any, denominator: Any) -> np.ndarray:
    with np.errstate(invalid='ignore'):
        return numerator / denominator


def mean_difference(
    candidate: Sequence[float], baseline: Sequence[float]
) -> tuple[float, Optional[tuple[float, float]]]:
    """Mean of one arm minus the mean of the other.

    Args:
        candidate: A value of every seed.
        baseline: The same of the other arm.

    Returns:
        The difference and its 95 % interval, by Student's t for two samples of
        one variance; None without a spread, where both arms have a single seed.
    """
    difference = float(np.mean(candidate) - np.mean(baseline))
    counts = len(candidate), len(baseline)
    freedom = sum(counts) - 2
    if not freedom:
        return difference, None
    squares = sum(
        float(np.square(np.asarray(values) - np.mean(values)).sum())
        for values in (candidate, baseline))
    # Above 14 degrees of freedom the interval is a little too wide.
    half = _STUDENT[min(freedom, max(_STUDENT))] * math.sqrt(
        squares / freedom * sum(1 / count for count in counts))
    return difference, (difference - half, difference + half)


def resolved(candidate: Sequence[float], baseline: Sequence[float]) -> bool:
    """Whether two means differ by more than so few seeds can show.

    The difference has to exceed :data:`DETECTABLE` pooled standard
    deviations, by the smaller number of seeds; a single seed shows nothing.
    """
    count = min(len(candidate), len(baseline), max(DETECTABLE))
    if count < 2:
        return False
    spread = math.sqrt((np.var(candidate, ddof=1) + np.var(baseline, ddof=1)) / 2)
    difference = abs(np.mean(candidate) - np.mean(baseline))
    return bool(difference > DETECTABLE[count] * spread)
