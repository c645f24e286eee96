# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Markdown tables of what ``probe.py`` wrote."""
import re
from collections import defaultdict
from pathlib import Path

from .shards import read_json
from .statistics import mean_difference
from .tables import markdown_table, measured

#: Arms that others are compared with.
BASELINES = ('mae', 'simmim')
_SEED = re.compile(r'_seed\d+$')


def probe_tables(files: list[Path]) -> str:
    """Every probe of every file, then differences over seeds.

    Args:
        files: Named ``<arm>_<the rest>_seed<n>.json``: files that differ in
            nothing but the seed are runs of one arm, and arms with the same rest
            are compared with the one that is named as in :data:`BASELINES`.
    """
    shards = {path.stem: read_json(path) for path in files}
    parts = [_values_table(shards)]
    if rows := _difference_rows(shards):
        parts += [
            'Differences of means over seeds, with the 95 % interval of Student\'s t:',
            markdown_table(
                ['results', 'probe', 'seeds', 'value, %', 'baseline, %',
                 'difference (95 %)'], rows)]
    return '\n\n'.join(parts)


def _values_table(shards: dict[str, dict]) -> str:
    probes = list(dict.fromkeys(
        probe for of in shards.values() for encoder in of['values'].values()
        for probe in encoder))
    rows = [[
        name,
        encoder,
        str(of['seed']),
        of['split'],
        *(f'{values[p]:.1f}' if p in values else '–' for p in probes),
    ] for name, of in shards.items() for encoder, values in of['values'].items()]
    return markdown_table(
        ['result', 'encoder', 'seed', 'split', *(f'{p}, %' for p in probes)], rows)


def _difference_rows(shards: dict[str, dict]) -> list[list[str]]:
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(
        lambda: defaultdict(list))
    for name, of in shards.items():
        arm, _, rest = _SEED.sub('', name).partition('_')
        for probe, value in of['values'].get('trained', {}).items():
            values[rest, probe][arm].append(value)
    rows = []
    for (rest, probe), arms in values.items():
        baseline = next((name for name in BASELINES if name in arms), '')
        for arm in [name for name in arms if baseline not in ('', name)]:
            difference, interval = mean_difference(arms[arm], arms[baseline])
            if interval is None:
                continue
            low, high = interval
            rows.append([
                f'{arm} − {baseline}, {rest}',
                probe,
                f'{len(arms[arm])} and {len(arms[baseline])}',
                measured(arms[arm]),
                measured(arms[baseline]),
                f'{difference:+.1f} ({low:+.1f} to {high:+.1f})',
            ])
    return rows
