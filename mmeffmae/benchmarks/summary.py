# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What the README shows of the committed results."""
import re
from collections import Counter
from pathlib import Path

from .curves import read_arms
from .results import (
    changed_options,
    gate_line,
    machine_of,
    memory_kind,
    quartiles,
    studies,
)
from .shards import Shards, read_json
from .tables import (
    markdown_table,
    measured,
    read_finished,
    study_machine,
    time_rows,
    time_table,
)


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
        targets.append(
            f'`{name}`: {target["probe"]} probe {target["target"]:.1f} %, '
            f'{study_machine(shards)}')
        rows += [[name, *row] for row in time_rows(arms, baseline, target)]
    return (f'Time to target ({"; ".join(targets)}):\n\n'
            + time_table(rows, 'probe', 'the baseline', 'study'))


def _steps(shards: list[dict]) -> str:
    """A row for each arm and peer, two columns for each machine."""
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
    """A row for each data set and config: pre-trained beside untrained."""
    rows = []
    for data, config in dict.fromkeys((of['data'], of['config']) for of in shards):
        found = [of for of in shards if (of['data'], of['config']) == (data, config)]
        rows.append([
            data, _short(Path(config).stem),
            ', '.join(f'{n:,}' for n in sorted({of['iterations'] for of in found})),
            *(_metrics([of['values'] for of in found if of['init'] == init])
              for init in ('pretrained', 'untrained'))])
    return 'Detection and segmentation:\n\n' + markdown_table(
        ['data', 'config', 'iterations', 'pre-trained', 'untrained'], rows)


def _metrics(values: list[dict[str, float]]) -> str:
    if not values:
        return '–'
    text = ', '.join(
        f'{name} {measured([of[name] for of in values])}' for name in values[0])
    return f'{text} ({len(values)} seed{"s" if len(values) > 1 else ""})'


def _short(config: str) -> str:
    """The name of a config without its schedule and data."""
    return re.sub(r'_\d+xb\d+.*', '', config)
