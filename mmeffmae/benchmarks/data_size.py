# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What more photographs bring at equal masked views: a table and a picture."""
from pathlib import Path
from statistics import fmean

from .curves import ArmResult
from .picture import picture
from .tables import markdown_table, measured


def arms_by_size(arms: list[ArmResult]) -> list[ArmResult]:
    """Finished arms by their number of photographs; none if it is one for all."""
    sizes = {arm.timing.get('photographs') for arm in arms}
    if None in sizes or len(sizes) < 2:
        return []
    finished = [arm for arm in arms if arm.branches]
    return sorted(finished, key=lambda arm: arm.timing['photographs'])


def size_table(arms: list[ArmResult], probe: str) -> str:
    """Markdown: the probe by photographs and by views.

    Args:
        arms: As :func:`arms_by_size` gives them.
        probe: Name of a probe.
    """
    positions = _positions(arms)
    rows = [[
        f'{arm.timing["photographs"]:,}',
        str(len(arm.branches)),
        *(measured(arm.values_at(views, probe, 'views')) for views in positions),
        f'{positions[-1] / arm.timing["photographs"]:,.0f}',
    ] for arm in arms]
    return markdown_table(
        ['photographs', 'seeds', *(f'{views:,.0f} views, %' for views in positions),
         'views of each at the end'], rows)


def plot_sizes(arms: list[ArmResult], probe: str, path: Path) -> None:
    """Draw the probe over photographs, a line for each number of views.

    Args:
        arms: As :func:`arms_by_size` gives them.
        probe: Name of a probe.
        path: PNG to write; equal shards give an equal file.
    """
    with picture(path, 6.4, 3.8) as figure:
        axes = figure.add_subplot()
        sizes = [arm.timing['photographs'] for arm in arms]
        untrained = [fmean(arm.values_at(0, probe, 'views')) for arm in arms]
        axes.plot(sizes, untrained, color='black', linestyle='--', linewidth=1,
                  label='untrained')
        for number, views in enumerate(_positions(arms)):
            values = [arm.values_at(views, probe, 'views') for arm in arms]
            color = f'C{number}'
            axes.plot(sizes, [fmean(of) for of in values], color=color,
                      label=f'{views:,.0f} views')
            for size, of in zip(sizes, values):
                axes.plot(
                    [size] * len(of), of, 'o', color=color, markersize=3, alpha=0.5)
        axes.set_xscale('log')
        axes.set_xticks(sizes, [f'{size:,}' for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel('photographs')
        axes.set_ylabel(f'{probe} probe, % of held-out photographs')
        axes.grid(alpha=0.3)
        axes.legend()


def _positions(arms: list[ArmResult]) -> list[float]:
    """Ends of the branches, in masked views; equal for all arms."""
    arm = arms[0]
    branches = next(iter(arm.branches.values()))
    return [of['steps'] * arm.unit('views') for of in branches]
