# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What the README shows of the committed results."""
import re
from collections import Counter
from pathlib import Path

from .curves import read_arms
from .dense_tables import dense_summary
from .results import (
    gate_line,
    memory_kind,
    quartiles,
    studies,
)
from .shards import read_json
from .speed_tables import machine_of
from .tables import (
    changed_options,
    markdown_table,
    read_finished,
    study_machine,
    time_rows,
    time_table,
)
from .target import has_target

#: Arms of fewer are left to the full tables.
_SEEDS = 2


def draw_summary(root: Path, plots: str = 'plots') -> str:
    """The gate, and one table of each kind.

    Args:
        root: The folder ``benchmarks``.
        plots: Where the text looks for the pictures.

    Returns:
        Markdown without headings; equal shards give an equal text.
    """
    parts = [gate_line(root), *_times(root, plots)]
    if files := sorted((root / 'throughput').glob('*.json')):
        parts.append(_steps([read_json(path) for path in files]))
    if files := sorted((root / 'dense').glob('*.json')):
        parts += ['Detection and segmentation; every difference, and results of one '
                  'seed, are in RESULTS.md:', dense_summary(files, _short, _SEEDS)]
    return '\n\n'.join(parts) + '\n'


def _times(root: Path, plots: str) -> list[str]:
    """The studies below one another, and their pictures; one arm alone is none."""
    rows, targets, names = [], [], []
    for shards in studies(root):
        if not shards.target.is_file():
            continue
        arms, baseline, target = read_finished(shards, read_arms(shards))
        arms = [arm for arm in arms if len(arm.branches) >= _SEEDS]
        if len(arms) < 2:
            continue
        name = shards.root.name
        names.append(name)
        goal = (f'{target["target"]:.1f} %' if has_target(target) else
                f'without a target, since {target["baseline"]} ends no better than '
                'the untrained encoder')
        targets.append(
            f'`{name}`: {target["probe"]} probe {goal}, {study_machine(shards)}')
        rows += [[name, *row] for row in time_rows(arms, baseline, target)]
    if not rows:
        return []
    text = (f'Time to target ({"; ".join(targets)}); arms of one seed are in '
            'RESULTS.md:\n\n' + time_table(rows, 'probe', 'the baseline', 'study'))
    pictures = ' '.join(
        f'![Probe against time: {name}]({plots}/{name}.png)' for name in names)
    return [text, pictures]


def _steps(shards: list[dict]) -> str:
    """A row for each arm and peer, two columns for each machine.

    Variants of an arms file are left to the full tables.
    """
    shards = [of for of in shards if '--arms' not in of.get('command', '').split()]
    rows: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for of in sorted(shards, key=lambda of: of['date']):
        for arm in of['arms']:
            if arm['name'] != of['peer']:
                key = arm['name'], changed_options(of), of['peer']
                ratio = arm['ratio_to_peer']
                rows.setdefault(key, {})[machine_of(of)] = [
                    quartiles(ratio['step_seconds']), f'{ratio[memory_kind(arm)]:.2f}']
    machines = sorted({machine_of(of) for of in shards})
    table = markdown_table(
        ['arm', 'peer', *(f'{what}, {machine}' for machine in machines
                          for what in ('step time', 'memory'))],
        [[*names, *(cell for machine in machines
                    for cell in rows[key].get(machine, ['–', '–']))]
         for key, names in sorted(_named(list(rows)).items())])
    return ('Cost of a training step, ratios to the peer, medians (quartiles), the '
            'newest measurement of each arm, at its own batch (RESULTS.md); memory is '
            f'what is saved for backward, on a GPU the allocator\'s peak:\n\n{table}')


def _named(
    keys: list[tuple[str, str, str]]
) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Short names of arm and peer, unless two arms would share them."""
    short = {
        key: (', '.join(filter(None, (_short(key[0]), key[1]))), _short(key[2]))
        for key in keys}
    shared = Counter(short.values())
    return {
        key: names if shared[names] == 1 else (
            ', '.join(filter(None, key[:2])), key[2])
        for key, names in short.items()}


def _short(config: str) -> str:
    """The name of a config without its schedule and data."""
    return re.sub(r'_\d+xb\d+.*', '', config)
