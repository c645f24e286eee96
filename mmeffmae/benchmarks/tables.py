# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Markdown tables of a study."""
import math
import shlex
from collections.abc import Iterable, Sequence
from itertools import takewhile
from statistics import median

from .curves import ArmResult, common_lengths, mean_and_spread, read_arms
from .shards import Shards, read_json
from .statistics import ratio_of_medians, resolved
from .target import has_target, read_target, targets_of_other_probes


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, first column to the left and the others to the right."""
    lines = [header, ['---'] + ['---:'] * (len(header) - 1), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def measured(values: list[float]) -> str:
    """Mean ± standard deviation."""
    mean, spread = mean_and_spread(values)
    return f'{mean:.1f}' if spread is None else f'{mean:.1f} ± {spread:.1f}'


def changed_options(of: dict) -> str:
    """What a command changed in all its configs, which keep their names."""
    words = shlex.split(of.get('command', ''))
    if '--cfg-options' not in words:
        return ''
    rest = words[words.index('--cfg-options') + 1:]
    return ', '.join(takewhile(lambda word: not word.startswith('--'), rest))


def study_tables(shards: Shards) -> str:
    """Everything that a study's shards say, as Markdown.

    Raises:
        ValueError: An arm has shards of two settings.
        TargetError: The target is not what it was fixed from.
    """
    arms = read_arms(shards)
    parts = [_machine(shards)]
    if shards.target.is_file():
        finished, baseline, target = read_finished(shards, arms)
        parts += [
            _target_line(target),
            time_table(time_rows(finished, baseline, target), target['probe'],
                       baseline.name),
            _equal_line(finished),
            _equal_table(finished, baseline, target['probe']),
            *_other_probes(shards, finished, baseline),
        ]
    if unfinished := [
            f'{arm.name} {seed}' for arm in arms for seed in arm.unfinished]:
        parts.append('Unfinished seeds, not counted: ' + ', '.join(unfinished) + '.')
    parts.append(_step_table(arms))
    if any(arm.trials for arm in arms):
        parts += ['Learning-rate trials, a quarter of the budget, one seed of their '
                  'own:', _trial_table(arms, _probe(shards))]
    if any(arm.final for arm in arms):
        parts += ['Validation photographs, read once:', _final_table(arms)]
    return '\n\n'.join(parts)


def _probe(shards: Shards) -> str:
    return read_json(shards.target)['probe'] if shards.target.is_file() else 'linear'


def read_finished(
    shards: Shards, arms: list[ArmResult]
) -> tuple[list[ArmResult], ArmResult, dict]:
    """Arms with finished seeds, the baseline among them, and the target.

    Raises:
        TargetError: The target is not what it was fixed from.
    """
    target = read_target(shards)
    finished = [arm for arm in arms if arm.branches]
    baseline = next(arm for arm in finished if arm.name == target['baseline'])
    return finished, baseline, target


def study_machine(shards: Shards) -> str:
    """What the steps were timed on."""
    record = read_json(shards.timing)
    machine = record['machine']
    if record['device'] == 'cuda':
        return machine['gpus'][0]
    return f'one thread of {machine["cpu"]}'


def _machine(shards: Shards) -> str:
    packages = read_json(shards.timing)['packages']
    return (f'Machine: {study_machine(shards)}; '
            f'PyTorch {packages["torch"].split()[-1]}. '
            'Time is steps × isolated median step time.')


def _target_line(target: dict) -> str:
    untrained, final = (
        measured(list(target[name].values())) for name in ('untrained', 'final'))
    if not has_target(target):
        return (f'No target, and no time to one: {target["baseline"]} ends no better '
                f'({final}) than the untrained encoder ({untrained}) by the '
                f'{target["probe"]} probe on held-out training photographs.')
    return (f'Target: {target["probe"]} probe {target["target"]:.2f} % on held-out '
            f'training photographs, 95 % of the way from untrained ({untrained}) to '
            f'{target["baseline"]} at its end ({final}).')


def time_table(rows: Iterable[Sequence[str]], probe: str, baseline: str,
               *first: str) -> str:
    """A table of :func:`time_rows`, behind the columns ``first``."""
    return markdown_table(
        [*first, 'arm', 'seeds', 'budget, s', f'{probe} at the end, %',
         'time to target, s (median)', f'ratio to {baseline} (95 %)',
         'seeds that never reached it'], rows)


def time_rows(
    arms: list[ArmResult], baseline: ArmResult, target: dict
) -> list[list[str]]:
    """Cells of every arm's time to the target."""
    probe = target['probe']
    rows = []
    for arm in arms:
        times = arm.times_to(target['target'], probe)
        there = has_target(target)
        rows.append([
            arm.name,
            str(len(times)),
            f'{arm.length("time"):,.0f}',
            measured(arm.ends(probe)),
            _seconds(median(times), arm.length('time')) if there else '–',
            _ratio(arm, baseline, target),
            str(sum(math.isinf(time) for time in times)) if there else '–',
        ])
    return rows


def _seconds(time: float, budget: float) -> str:
    return f'over {budget:,.0f}' if math.isinf(time) else f'{time:,.0f}'


def _ratio(arm: ArmResult, baseline: ArmResult, target: dict) -> str:
    if not has_target(target):
        return '–'
    if arm is baseline:
        return '1'
    times, reference = (
        of.times_to(target['target'], target['probe']) for of in (arm, baseline))
    ratio, interval = ratio_of_medians(times, reference)
    text = '–' if math.isnan(ratio) or math.isinf(ratio) else f'{ratio:.2f}'
    if interval is None:
        return f'{text} (one seed)'
    low, high = interval
    if math.isinf(low):
        return '– (never)'
    note = ', not resolved' if low <= 1 <= high else ''
    return f'{text} ({low:.2f} to {"∞" if math.isinf(high) else f"{high:.2f}"}{note})'


def _equal_line(arms: list[ArmResult]) -> str:
    ends = common_lengths(arms)
    return (f'The same curves at equal time ({ends["time"]:,.0f} s), equal images '
            f'({ends["images"]:,.0f}) and equal masked views ({ends["views"]:,.0f}), '
            'in brackets the difference; smaller ones than so few seeds can show '
            'are not resolved:')


def _equal_table(
    arms: list[ArmResult], baseline: ArmResult, probe: str
) -> str:
    ends = common_lengths(arms)
    rows = []
    for arm in arms:
        row = [arm.name]
        for kind, end in ends.items():
            values = arm.values_at(end, probe, kind)
            reference = baseline.values_at(end, probe, kind)
            row.append(
                measured(values) if arm is baseline else
                f'{measured(values)} ({_difference(values, reference)})')
        rows.append(row)
    return markdown_table(
        ['arm', *(f'equal {kind}, %' for kind in ends)], rows)


def _difference(values: list[float], reference: list[float]) -> str:
    difference = mean_and_spread(values)[0] - mean_and_spread(reference)[0]
    note = '' if resolved(values, reference) else ', not resolved'
    return f'{difference:+.1f}{note}'.replace('-', '−')


def _other_probes(
    shards: Shards, arms: list[ArmResult], baseline: ArmResult
) -> list[str]:
    """The end, and the time to a target of its own, by each other probe."""
    targets = targets_of_other_probes(shards)
    if not targets:
        return []
    header = ['arm']
    for target in targets:
        header += [f'{target["probe"]} at the end, %',
                   _ratio_header(target, baseline.name)]
    rows = [[
        arm.name,
        *(cell for target in targets for cell in (
            measured(arm.ends(target['probe'])), _ratio(arm, baseline, target)))
    ] for arm in arms]
    return ['By the other probes of the same runs, each with a target by the same '
            'rule:', markdown_table(header, rows)]


def _ratio_header(target: dict, baseline: str) -> str:
    untrained = mean_and_spread([*target['untrained'].values()])[0]
    goal = f' to {target["target"]:.2f}' if has_target(target) else ''
    return f'time from {untrained:.1f}{goal} %, ratio to {baseline} (95 %)'


def _step_table(arms: list[ArmResult]) -> str:
    rows = []
    on_gpu = any(arm.peak_bytes() for arm in arms)
    for arm in arms:
        step = arm.timing['step_seconds']
        joules, peak = arm.joules_per_step(), arm.peak_bytes()
        rows.append([
            arm.name,
            f'{1e3 * step["median"]:.1f} ({1e3 * step["q1"]:.1f} to '
            f'{1e3 * step["q3"]:.1f})',
            f'{arm.timing["images"] / step["median"]:,.0f}',
            f'{arm.timing["views"] / step["median"]:,.0f}',
            f'{arm.timing["saved_bytes"] / 2**20:,.0f}',
            *([f'{peak / 2**20:,.0f}' if peak else '–'] if on_gpu else []),
            'not measured' if joules is None else f'{joules:.2f}',
        ])
    return markdown_table(
        ['arm', 'ms a step (quartiles)', 'images/s', 'masked views/s',
         'MiB saved for backward', *(['MiB allocator peak'] if on_gpu else []),
         'GPU energy, J a step'], rows)


def _trial_table(arms: list[ArmResult], probe: str) -> str:
    rates = sorted({rate for arm in arms for rate in arm.trials})
    rows = []
    for arm in arms:
        if not arm.trials:
            continue
        best = max(of[probe] for of in arm.trials.values())
        cells = []
        for rate in rates:
            value = arm.trials[rate][probe] if rate in arm.trials else None
            text = '–' if value is None else f'{value:.1f}'
            cells.append(f'**{text}**' if value == best else text)
        rows.append([arm.name, *cells])
    return markdown_table(
        [f'{probe}, %', *(f'rate × {rate:g}' for rate in rates)], rows)


def _final_table(arms: list[ArmResult]) -> str:
    read = [arm for arm in arms if arm.final]
    probes = list(dict.fromkeys(
        probe for arm in read for of in arm.final.values() for probe in of))
    rows = [[
        arm.name,
        str(len(arm.final)),
        *(measured([of[probe] for of in arm.final.values()]) for probe in probes),
    ] for arm in read]
    return markdown_table(['arm', 'seeds', *(f'{p}, %' for p in probes)], rows)
