# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Picture of a study: probe against time."""
from pathlib import Path
from statistics import fmean

from .curves import ArmResult, read_arms
from .picture import picture
from .shards import Shards
from .target import has_target, read_target


def plot_study(shards: Shards, path: Path) -> None:
    """Draw cooldown points of every seed, means, and the target.

    Args:
        shards: A study whose target is fixed.
        path: PNG to write; equal shards give an equal file.
    """
    target = read_target(shards)
    with picture(path, 6.4, 3.8) as figure:
        axes = figure.add_subplot()
        arms = [arm for arm in read_arms(shards) if arm.branches]
        for number, arm in enumerate(arms):
            _plot_arm(axes, arm, target['probe'], f'C{number}')
        if has_target(target):
            axes.axhline(
                target['target'], color='black', linestyle='--', linewidth=1,
                label=f'target {target["target"]:.1f} %')
        axes.set_xlabel('steps × isolated step time, s')
        axes.set_ylabel(f'{target["probe"]} probe, % of held-out photographs')
        axes.grid(alpha=0.3)
        axes.legend()


def _plot_arm(axes, arm: ArmResult, probe: str, color: str) -> None:
    curves = [arm.curve(seed, probe, 'time') for seed in arm.branches]
    for positions, values in curves:
        axes.plot(positions, values, 'o', color=color, markersize=3, alpha=0.5)
    means = [fmean(values) for values in zip(*(values for _, values in curves))]
    label = f'{arm.name} ({len(curves)} seed{"s" if len(curves) > 1 else ""})'
    axes.plot(curves[0][0], means, color=color, label=label)
