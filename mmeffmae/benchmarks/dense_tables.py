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
_RULE = (
    f'what a t test finds with 80 % power, {DETECTABLE[3]} pooled standard deviations '
    'with three seeds; an interval that leaves 0 out is not enough.')
_SEED = re.compile(r'_seed\d+$')


def dense_table(files: Iterable[Path]) -> str:
    """A row for each backbone of each config, over its seeds, and every difference.

    Args:
        files: Named ``<config>_<backbone>_<hash>_seed<n>.json``: what differs in
            nothing but the seed is one arm, and arms of one config and number of
            iterations are compared with the controls among them.
    """
    tasks, metrics = _read(files)
    rows = []
    for (data, config, options, share, steps), members in tasks.items():
        name = ', '.join(filter(None, (Path(config).stem, options, _share(share))))
        rows += [[
            data, name, arm[0]['init'], f'{steps:,}', str(len(arm)),
            *(_value(arm, metric) for metric in metrics),
            *(_difference(arm, control) for control in _controls(members).values()),
        ] for arm in members]
    table = markdown_table(
        ['data', 'config', 'backbone', 'last logged iteration', 'seeds', *metrics,
         *(f'over {name} (95 %)' for name in _CONTROLS)], rows)
    return f'{table}\n\nNot resolved: smaller than {_RULE}'


def dense_summary(
    files: Iterable[Path], short: Callable[[str], str], least: int
) -> str:
    """A shorter row for each backbone, with the differences that are resolved alone.

    Args:
        files: See :func:`dense_table`.
        short: Gives the name of a config as the table shows it.
        least: Seeds of a backbone below which it has no row.
    """
    tasks, metrics = _read(files, least)
    rows = []
    for (data, config, options, share, _), members in tasks.items():
        name = ', '.join(filter(None, (
            short(Path(config).stem), options, _share(share))))
        rows += [[
            data, name, arm[0]['init'], str(len(arm)),
            *(_value(arm, metric) for metric in metrics),
            _resolved(arm, _controls(members)),
        ] for arm in members if len(arm) >= least]
    table = markdown_table(
        ['data', 'config', 'backbone', 'seeds', *metrics,
         'resolved differences (95 %)'], rows)
    return (f'{table}\n\nA backbone minus {_CONTROLS[0]}, {_CONTROLS[1]} and '
            f'{_CONTROLS[2]} ones of the same config, where the difference is at least '
            f'{_RULE}')


def _read(
    files: Iterable[Path], least: int = 1
) -> tuple[dict[tuple, list[list[dict]]], list[str]]:
    """Arms by task, and the metrics of arms with so many seeds."""
    arms: dict[str, list[dict]] = defaultdict(list)
    for path in sorted(files):
        arms[_SEED.sub('', path.stem)].append(read_json(path))
    metrics = dict.fromkeys(
        name for arm in arms.values() if len(arm) >= least
        for of in arm for name in of['values'])
    return _by_task(arms.values()), list(metrics)


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


def _controls(members: list[list[dict]]) -> dict[str, list[dict] | None]:
    found = {
        name: [arm for arm in members if arm[0]['init'] == name] for name in _CONTROLS}
    # Two arms of a name were measured before and after a change.
    return {name: arms[0] if len(arms) == 1 else None for name, arms in found.items()}


def _share(share: float) -> str:
    return '' if share == 1 else f'{100 * share:g} % of the labels'


def _value(arm: list[dict], metric: str) -> str:
    values = _values(arm, metric)
    return measured(values) if values else '–'


def _values(arm: list[dict], metric: str) -> list[float]:
    return [of['values'][metric] for of in arm if metric in of['values']]


def _compared(
    arm: list[dict], control: list[dict] | None
) -> tuple[str, tuple[list[float], list[float]]] | None:
    """The first metric, and its values of both; None where there is nothing to."""
    if control is None or arm is control:
        return None
    metric = next(iter(arm[0]['values']))
    return metric, (_values(arm, metric), _values(control, metric))


def _difference(arm: list[dict], control: list[dict] | None) -> str:
    compared = _compared(arm, control)
    if compared is None:
        return '–'
    metric, values = compared
    difference, interval = mean_difference(*values)
    if interval is None:
        return f'{difference:+.1f} {metric} (one seed)'
    verdict = '' if resolved(*values) else ', not resolved'
    return (f'{difference:+.1f} {metric} ({interval[0]:+.1f} to '
            f'{interval[1]:+.1f}{verdict})')


def _resolved(arm: list[dict], controls: dict[str, list[dict] | None]) -> str:
    found = [
        f'over {name} {_difference(arm, control)}' for name, control in controls.items()
        if (compared := _compared(arm, control)) and resolved(*compared[1])]
    return ', '.join(found) or '–'
