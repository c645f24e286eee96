# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What the README shows of the committed results."""
import re
from collections import Counter
from pathlib import Path

from .curves import read_arms
from .results import (
    changed_options,
    gate_line,
    memory_kind,
    quartiles,
    studies,
)
from .shards import Shards, read_json
from .speed_tables import machine_of
from .tables import (
    markdown_table,
    measured,
    read_finished,
    study_machine,
    time_rows,
    time_table,
)
from .target import has_target


def draw_summary(root: Path, plots: str = 'plots') -> str:
    """The gate, and one table of each kind.

    Args:
        root: The folder ``benchmarks``.
        plots: Where the text looks for the pictures.

    Returns:
        Markdown without headings; equal shards give an equal text.
    """
    parts = [gate_line(root)]
    if fixed := [of for of in studies(root) if of.target.is_file()]:
        parts += [_times(fixed), ' '.join(
            f'![Probe against time: {of.root.name}]({plots}/{of.root.name}.png)'
            for of in fixed)]
    for name, draw in (('throughput', _steps), ('dense', _dense)):
        if files := sorted((root / name).glob('*.json')):
            parts.append(draw([read_json(path) for path in files]))
    return '\n\n'.join(parts) + '\n'


def _times(fixed: list[Shards]) -> str:
    """The studies below one another."""
    rows, targets = [], []
    for shards in fixed:
        arms, baseline, target = read_finished(shards, read_arms(shards))
        name = shards.root.name
        goal = (f'{target["target"]:.1f} %' if has_target(target) else
                f'without a target, since {target["baseline"]} ends no better than '
                'the untrained encoder')
        targets.append(
            f'`{name}`: {target["probe"]} probe {goal}, {study_machine(shards)}')
        rows += [[name, *row] for row in time_rows(arms, baseline, target)]
    return (f'Time to target ({"; ".join(targets)}):\n\n'
            + time_table(rows, 'probe', 'the baseline', 'study'))


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
            'newest measurement of each arm; memory is what is saved for backward, '
            f'on a GPU the allocator\'s peak:\n\n{table}')


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


def _dense(shards: list[dict]) -> str:
    """A row for each task, a column for each kind of encoder."""
    rows: dict[tuple, dict[str, list[dict]]] = {}
    for of in shards:
        key = of['data'], of['config'], of.get('share', 1), of['iterations']
        rows.setdefault(key, {}).setdefault(of['init'], []).append(of)
    inits = sorted({of['init'] for of in shards}, key=lambda init: (
        init == 'untrained', init))
    cells = [[
        data,
        _short(Path(config).stem) + (f', {100 * share:g} % of the labels'
                                     if share != 1 else ''),
        f'{iterations:,}',
        *(_metrics(found.get(init, [])) for init in inits),
    ] for (data, config, share, iterations), found in rows.items()]
    return 'Detection and segmentation:\n\n' + markdown_table(
        ['data', 'config', 'last logged iteration', *inits], cells)


def _metrics(shards: list[dict]) -> str:
    """Means over seeds; of each backbone, if a seed had several."""
    groups: dict[str, list[dict]] = {'': shards} if shards else {}
    if len({of['seed'] for of in shards}) < len(shards):
        groups = {}
        for of in shards:
            name = of['backbone']['hash'] if of['backbone'] else 'none'
            groups.setdefault(f'`{name}`: ', []).append(of)
    return '; '.join(name + _means(of) for name, of in groups.items()) or '–'


def _means(shards: list[dict]) -> str:
    text = ', '.join(
        f'{name} {measured([of["values"][name] for of in shards])}'
        for name in shards[0]['values'])
    return f'{text} ({len(shards)} seed{"s" if len(shards) > 1 else ""})'


def _short(config: str) -> str:
    """The name of a config without its schedule and data."""
    return re.sub(r'_\d+xb\d+.*', '', config)
