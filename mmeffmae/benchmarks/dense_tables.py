# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Markdown tables of what ``dense_compare.py`` wrote."""
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from .shards import read_json
from .statistics import DETECTABLE, mean_difference, resolved
from .tables import changed_options, markdown_table, measured

#: What the other backbones are compared with.
_CONTROLS = ('untrained', 'supervised', 'simmim')
_SEED = re.compile(r'_seed\d+$')


def dense_table(
    files: Iterable[Path], short: Callable[[str], str] = str, least: int = 1
) -> str:
    """A row for each backbone of each config, over its seeds.

    Args:
        files: Named ``<config>_<backbone>_<hash>_seed<n>.json``: what differs in
            nothing but the seed is one arm, and arms of one config and number of
            iterations are compared with the untrained one.
        short: Gives the name of a config as the table shows it.
        least: Seeds of a backbone below which it has no row.
    """
    arms: dict[str, list[dict]] = defaultdict(list)
    for path in sorted(files):
        arms[_SEED.sub('', path.stem)].append(read_json(path))
    metrics = list(dict.fromkeys(
        name for shards in arms.values() if len(shards) >= least
        for of in shards for name in of['values']))
    rows = []
    for (data, config, options, share, steps), members in _by_task(
            arms.values()).items():
        controls = [_control(members, name) for name in _CONTROLS]
        for arm in (arm for arm in members if len(arm) >= least):
            rows.append([
                data,
                ', '.join(filter(None, (
                    short(Path(config).stem), options, _share(share)))),
                arm[0]['init'],
                f'{steps:,}',
                str(len(arm)),
                *(_value(arm, metric) for metric in metrics),
                *(_difference(arm, control) for control in controls),
            ])
    table = markdown_table(
        ['data', 'config', 'backbone', 'last logged iteration', 'seeds', *metrics,
         *(f'over {name} (95 %)' for name in _CONTROLS)], rows)
    return (f'{table}\n\nNot resolved: smaller than what a t test finds with 80 % '
            f'power, {DETECTABLE[3]} pooled standard deviations with three seeds; '
            'an interval that leaves 0 out is not enough.')


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


def _control(members: list[list[dict]], name: str) -> list[dict] | None:
    found = [of for of in members if of[0]['init'] == name]
    # Two arms of a name were measured before and after a change.
    return found[0] if len(found) == 1 else None


def _share(share: float) -> str:
    return '' if share == 1 else f'{100 * share:g} % of the labels'


def _value(arm: list[dict], metric: str) -> str:
    values = _values(arm, metric)
    return measured(values) if values else '–'


def _values(arm: list[dict], metric: str) -> list[float]:
    return [of['values'][metric] for of in arm if metric in of['values']]


def _difference(arm: list[dict], control: list[dict] | None) -> str:
    if control is None or arm is control:
        return '–'
    metric = next(iter(arm[0]['values']))
    values = _values(arm, metric), _values(control, metric)
    difference, interval = mean_difference(*values)
    if interval is None:
        return f'{difference:+.1f} {metric} (one seed)'
    low, high = interval
    verdict = '' if resolved(*values) else ', not resolved'
    return f'{difference:+.1f} {metric} ({low:+.1f} to {high:+.1f}{verdict})'
