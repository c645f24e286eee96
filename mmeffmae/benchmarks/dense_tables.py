# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Markdown tables of what ``dense_compare.py`` wrote."""
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from .shards import read_json
from .statistics import mean_difference, resolved
from .tables import changed_options, markdown_table, measured

_SEED = re.compile(r'_seed\d+$')


def dense_table(files: Iterable[Path], short: Callable[[str], str] = str) -> str:
    """A row for each backbone of each config, over its seeds.

    Args:
        files: Named ``<config>_<backbone>_<hash>_seed<n>.json``: what differs in
            nothing but the seed is one arm, and arms of one config and number of
            iterations are compared with the untrained one.
        short: Gives the name of a config as the table shows it.
    """
    arms: dict[str, list[dict]] = defaultdict(list)
    for path in sorted(files):
        arms[_SEED.sub('', path.stem)].append(read_json(path))
    metrics = list(dict.fromkeys(
        name for shards in arms.values() for of in shards for name in of['values']))
    rows = []
    for (data, config, options, share, steps), members in _by_task(
            arms.values()).items():
        untrained = [of for of in members if of[0]['init'] == 'untrained']
        for arm in members:
            # Two untrained arms were measured before and after a change.
            baseline = untrained[0] if len(untrained) == 1 else None
            rows.append([
                data,
                ', '.join(filter(None, (
                    short(Path(config).stem), options, _share(share)))),
                arm[0]['init'],
                f'{steps:,}',
                str(len(arm)),
                *(_value(arm, metric) for metric in metrics),
                _difference(arm, baseline),
            ])
    return markdown_table(
        ['data', 'config', 'backbone', 'last logged iteration', 'seeds', *metrics,
         'over untrained (95 %)'], rows)


def _by_task(arms: Iterable[list[dict]]) -> dict[tuple, list[list[dict]]]:
    tasks: dict[tuple, list[list[dict]]] = {}
    for arm in arms:
        of = arm[0]
        key = (of['data'], of['config'], changed_options(of), of.get('share', 1),
               of['iterations'])
        tasks.setdefault(key, []).append(arm)
    return {
        key: sorted(members, key=lambda arm: (
            arm[0]['init'] != 'untrained', arm[0]['init']))
        for key, members in tasks.items()}


def _share(share: float) -> str:
    return '' if share == 1 else f'{100 * share:g} % of the labels'


def _value(arm: list[dict], metric: str) -> str:
    values = _values(arm, metric)
    return measured(values) if values else '–'


def _values(arm: list[dict], metric: str) -> list[float]:
    return [of['values'][metric] for of in arm if metric in of['values']]


def _difference(arm: list[dict], untrained: list[dict] | None) -> str:
    if untrained is None or arm is untrained:
        return '–'
    metric = next(iter(arm[0]['values']))
    values = _values(arm, metric), _values(untrained, metric)
    difference, interval = mean_difference(*values)
    if interval is None:
        return f'{difference:+.1f} {metric} (one seed)'
    low, high = interval
    verdict = '' if resolved(*values) else ', not resolved'
    return f'{difference:+.1f} {metric} ({low:+.1f} to {high:+.1f}{verdict})'
