# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Curves of a study, read from its shards alone."""
import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Optional

from .shards import Shards, read_json
from .statistics import crossing, value_at
from .study import BUDGET_KINDS, FRACTIONS


@dataclass(frozen=True)
class ArmResult:
    """What the shards say of an arm.

    Attributes:
        name: The arm.
        timing: Its part of the timing shard.
        branches: Branch shards by seed, in the order of their steps; seeds
            with all branches only.
        unfinished: Seeds with some branches.
        untrained: Probes of the untrained encoder by seed.
        trials: Probes of the learning-rate trials by factor.
        final: Probes on the validation photographs by seed.
    """
    name: str
    timing: dict[str, Any]
    branches: dict[int, list[dict]]
    unfinished: list[int]
    untrained: dict[int, dict[str, float]]
    trials: dict[float, dict[str, float]]
    final: dict[int, dict[str, float]]

    def unit(self, kind: str) -> float:
        """Seconds, images or masked views of a step."""
        if kind == 'time':
            return self.timing['step_seconds']['median']
        return self.timing[kind]

    def curve(self, seed: int, probe: str, kind: str) -> tuple[list, list]:
        """Positions and values, from the untrained encoder on.

        Args:
            seed: A finished seed.
            probe: Name of a probe.
            kind: What positions count, one of :data:`BUDGET_KINDS`.
        """
        steps = [0] + [of['steps'] for of in self.branches[seed]]
        values = [self.untrained[seed][probe]]
        values += [of['values'][probe] for of in self.branches[seed]]
        return [step * self.unit(kind) for step in steps], values

    def length(self, kind: str) -> float:
        """Where the curves end."""
        return min(of[-1]['steps'] for of in self.branches.values()) * self.unit(kind)

    def ends(self, probe: str) -> list[float]:
        """Value at the end of the budget, of every seed."""
        return [of[-1]['values'][probe] for of in self.branches.values()]

    def times_to(self, target: float, probe: str) -> list[float]:
        """Seconds to the target of every seed; infinity if never."""
        return [
            crossing(*self.curve(seed, probe, 'time'), target)
            for seed in self.branches
        ]

    def values_at(self, position: float, probe: str, kind: str) -> list[float]:
        """Value of every seed at a position."""
        return [
            value_at(*self.curve(seed, probe, kind), position)
            for seed in self.branches
        ]

    def joules_per_step(self) -> Optional[float]:
        """Mean of the GPU's counter over all training; None if not measured."""
        costs = [of['cost'] for shards in self.branches.values() for of in shards]
        joules = [cost['energy']['gpu_joules'] for cost in costs]
        steps = sum(cost['steps'] for cost in costs)
        if not steps or not all(isinstance(value, float) for value in joules):
            return None
        return sum(joules) / steps

    def peak_bytes(self) -> Optional[int]:
        """The largest peak of the GPU's allocator in training; None on a CPU."""
        costs = [of['cost'] for shards in self.branches.values() for of in shards]
        return max((cost['peak_bytes'] for cost in costs if 'peak_bytes' in cost),
                   default=None)


def read_arms(shards: Shards) -> list[ArmResult]:
    """All arms that were timed, in the order of the arms file.

    Raises:
        ValueError: An arm has shards of two settings.
    """
    timing = read_json(shards.timing)['arms']
    return [_read_arm(shards, arm, of) for arm, of in timing.items()]


def _read_arm(shards: Shards, arm: str, timing: dict) -> ArmResult:
    by_seed: dict[int, list[dict]] = defaultdict(list)
    keys = {}
    for path in shards.branches(arm):
        shard = read_json(path)
        by_seed[shard['seed']].append(shard)
        keys[shard['key']] = path
    if len(keys) > 1:
        raise ValueError(
            f'{arm} has shards of {len(keys)} settings ('
            f'{", ".join(str(path) for path in keys.values())}): remove those of '
            'the outdated one')
    complete = {
        seed: sorted(found, key=lambda shard: shard['steps'])
        for seed, found in sorted(by_seed.items()) if len(found) == len(FRACTIONS)
    }
    untrained = {
        seed: read_json(shards.root / found[0]['untrained'])['values']
        for seed, found in complete.items()
    }
    trials = [read_json(p) for p in (shards.root / arm / 'rates').glob('*.json')]
    final = [read_json(p) for p in (shards.root / arm / 'final').glob('*.json')]
    return ArmResult(
        arm, timing, complete, sorted(set(by_seed) - set(complete)), untrained,
        {of['rate']: of['values'] for of in sorted(trials, key=lambda of: of['rate'])},
        {of['seed']: of['values'] for of in sorted(final, key=lambda of: of['seed'])})


def common_lengths(arms: list[ArmResult]) -> dict[str, float]:
    """The largest time, images and views that every measured arm reached."""
    return {
        kind: min((arm.length(kind) for arm in arms if arm.branches),
                  default=math.nan)
        for kind in BUDGET_KINDS
    }


def mean_and_spread(values: list[float]) -> tuple[float, Optional[float]]:
    """Mean, and standard deviation from two values on."""
    mean = fmean(values)
    if len(values) < 2:
        return mean, None
    squares = sum((value - mean)**2 for value in values)
    return mean, math.sqrt(squares / (len(values) - 1))
