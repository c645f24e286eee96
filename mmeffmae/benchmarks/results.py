# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Every committed result as Markdown and pictures."""
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from .curves import read_arms
from .data_size import arms_by_size, plot_sizes, size_table
from .dense_tables import dense_table
from .inits import init_tables, plot_inits, read_comparisons
from .plot import plot_study
from .probe_tables import probe_tables
from .shards import Shards, read_json
from .speed_tables import cost_tables, data_tables, machine_of, scaling_tables
from .stability import stability_tables
from .tables import changed_options, markdown_table, measured, study_tables
from .target import read_target

#: Where the README takes the results in.
MARKERS = ('<!-- measured -->', '<!-- /measured -->')
#: Linear probe, percent, that MAE with ViT-S reaches where the set-up is sound.
GATE = 80.0


def draw_plots(root: Path) -> list[Path]:
    """Draw the pictures of all studies into ``plots``; returns the files."""
    drawn = []
    for shards in studies(root):
        if shards.target.is_file():
            drawn.append(root / 'plots' / f'{shards.root.name}.png')
            plot_study(shards, drawn[-1])
            if arms := arms_by_size(read_arms(shards)):
                drawn.append(root / 'plots' / f'{shards.root.name}_sizes.png')
                plot_sizes(arms, read_target(shards)['probe'], drawn[-1])
    if files := sorted((root / 'inits').glob('*.json')):
        drawn.append(root / 'plots' / 'inits.png')
        plot_inits(read_comparisons(files), drawn[-1])
    return drawn


def draw_tables(root: Path, plots: str = 'plots') -> str:
    """All tables.

    Args:
        root: The folder ``benchmarks``.
        plots: Where the text looks for the pictures.

    Returns:
        Markdown, with headings of the second level; equal shards give an equal
        text.
    """
    parts = [gate_line(root)]
    for shards in studies(root):
        name = shards.root.name
        parts += [f'## Time to target: {name}', study_tables(shards)]
        if shards.target.is_file():
            parts.append(f'![Probe against time]({plots}/{name}.png)')
            if arms := arms_by_size(read_arms(shards)):
                parts += [
                    'The same branches by the number of photographs:',
                    size_table(arms, read_target(shards)['probe']),
                    f'![Probe against photographs]({plots}/{name}_sizes.png)']
    for title, name, draw in _SECTIONS:
        if files := sorted((root / name).glob('*.json')):
            parts += [f'## {title}', draw(files)]
    if any((root / 'inits').glob('*.json')):  # the last section
        parts.append(f'![Against the share of the labels]({plots}/inits.png)')
    return '\n\n'.join(parts) + '\n'


def fill_markers(text: str, tables: str, name: str) -> str:
    """Put the tables between the markers of a text.

    Raises:
        ValueError: The text lacks a marker.
    """
    begin, end = MARKERS
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f'{name} lacks the lines {begin} and {end}, between which '
                         'the tables go: add them')
    return f'{head}{begin}\n\n{tables}\n{end}{tail}'


def studies(root: Path) -> list[Shards]:
    """All studies whose arms were timed."""
    return [
        Shards(path.parent)
        for path in sorted(root.glob('time_to_target/*/timing.json'))]


def gate_line(root: Path) -> str:
    """The line that has to stand beside every ratio."""
    text = (f'Gate of the baseline (MAE, ViT-S/8 at 112 px, 200 epochs, at least '
            f'{GATE:.0f} % linear probe on Imagenette): ')
    values = [
        read_json(path)['values']['trained']['linear']
        for path in sorted((root / 'gate').glob('*.json'))
    ]
    if not values:
        return f'{text}**open**, not run yet.'
    state = 'passed' if fmean(values) >= GATE else 'missed'
    return f'{text}**gate {state}: {fmean(values):.1f} %** ({len(values)} seeds).'


def _throughput(files: list[Path]) -> str:
    parts = []
    for path in files:
        of = read_json(path)
        parts += [
            f'`{path.stem}`: {of["batch_size"]} images a step, {of["clock"]}, '
            f'{machine_of(of)}{_options(of)}; ratios to {of["peer"]}, '
            'medians (quartiles).',
            _throughput_table(of['arms'])]
    return '\n\n'.join(parts)


def _options(of: dict) -> str:
    return f'; configs with {changed}' if (changed := changed_options(of)) else ''


def memory_kind(arm: dict) -> str:
    """The allocator's peak on a GPU, else what is saved for backward."""
    return 'peak_bytes' if 'peak_bytes' in arm else 'saved_bytes'


def quartiles(of: dict) -> str:
    """Median and quartiles."""
    return f'{of["median"]:.2f} ({of["q1"]:.2f} to {of["q3"]:.2f})'


def _throughput_table(arms: list[dict]) -> str:
    memory = memory_kind(arms[0])
    rows = []
    for arm in arms:
        ratio = arm['ratio_to_peer']
        rows.append([
            arm['name'],
            quartiles(ratio['step_seconds']),
            f'{arm["images_per_second"]["median"]:,.1f}',
            f'{arm["views_per_second"]["median"]:,.1f}',
            f'{arm[memory] / 2**20:,.0f} ({ratio[memory]:.2f})',
            f'{arm["parameters"]["total"] / 1e6:.1f}',
            f'{arm["macs"]["total"] / 1e9:.2f}',
        ])
    kind = 'allocator peak' if memory == 'peak_bytes' else 'saved for backward'
    return markdown_table(
        ['arm', 'step time, ratio', 'images/s', 'masked views/s',
         f'MiB {kind} (ratio)', 'M parameters', 'GMACs an image'], rows)


def _inference(files: list[Path]) -> str:
    parts = []
    for path in files:
        of = read_json(path)
        arms = of['arms']
        parts += [
            f'`{path.stem}`: {of["config"]}, {of["batch_size"]} images of '
            f'{of["image_size"][0]} x {of["image_size"][1]} px, {of["clock"]}, '
            f'{machine_of(of)}{_options(of)}; tokens leave after the '
            f'layers {", ".join(map(str, arms[0]["drop_indices"]))}, by '
            f'{arms[0]["metric"]}.',
            markdown_table(
                ['drop ratio', 'patch tokens', 'GMACs', 'images/s',
                 'speed, ratio (quartiles)'],
                [[
                    f'{arm["drop_ratio"]:g}',
                    ' → '.join(map(str, arm['tokens'])),
                    f'{arm["macs"] / 1e9:.2f}',
                    f'{arm["images_per_second"]["median"]:,.1f}',
                    quartiles(arm['speed_ratio']),
                ] for arm in arms])]
    return '\n\n'.join(parts)


def _drop_accuracy(files: list[Path]) -> str:
    parts = []
    for path in files:
        of = read_json(path)
        values = {
            (arm['metric'], arm['drop_ratio']): arm['values'] for arm in of['arms']}
        kept = [arm for arm in of['arms'] if arm['metric'] == 'redundancy']
        layers = ', '.join(map(str, kept[0]['drop_indices']))
        parts += [
            f'`{path.stem}`: {of["config"]}, weights '
            f'`{of["checkpoint"]["hash"]}`; tokens leave after the layers {layers}.',
            markdown_table(
                ['drop ratio', 'patch tokens', 'redundant tokens leave, %',
                 'random tokens leave, %'],
                [[
                    f'{arm["drop_ratio"]:g}',
                    ' → '.join(map(str, arm['tokens'])),
                    measured(arm['values']),
                    measured(values['random', arm['drop_ratio']])
                    if arm['drop_ratio'] else '–',
                ] for arm in kept])]
    return '\n\n'.join(parts)


def _logs(files: list[Path]) -> str:
    shards = {path.stem: read_json(path) for path in files}
    names = list(dict.fromkeys(name for of in shards.values() for name in of['curves']))
    rows = []
    for stem, of in shards.items():
        curves = {name: dict(zip(curve['iterations'], curve['values']))
                  for name, curve in of['curves'].items()}
        iterations = sorted({step for curve in curves.values() for step in curve})
        # The first, the last, and up to three between.
        places = {part * (len(iterations) - 1) // 4 for part in range(5)}
        for step in [iterations[place] for place in sorted(places)]:
            rows.append([stem, f'{step:,}', *(
                f'{curves[name][step]:.3f}' if step in curves.get(name, {}) else '–'
                for name in names)])
    return markdown_table(['run', 'iteration', *names], rows)


def _consistency(files: list[Path]) -> str:
    parts = []
    for path in files:
        of = read_json(path)
        compared = [of[side] for side in ('model', 'versus') if side in of]
        # The hashes tell checkpoints of one config apart.
        columns = {
            f'{Path(one["config"]).stem} `{one["checkpoint"]["hash"]}`': one['numbers']
            for one in compared
        }
        if 'versus' in of:
            columns['ratio'] = {
                name: kinds['ratio'] for name, kinds in of['paired'].items()}
        rows = [[
            name,
            *(f'{numbers[name]["value"]:.4f} ({numbers[name]["low"]:.4f} to '
              f'{numbers[name]["high"]:.4f})' for numbers in columns.values()),
        ] for name in of['model']['numbers']]
        parts += [
            f'`{path.stem}`: {of["photographs"]} photographs ({of["split"]}), '
            f'{of["partitions"]} partitions into {of["parts"]} parts; 95 % '
            'intervals over photographs.',
            markdown_table(['', *columns], rows)]
    return '\n\n'.join(parts)


def _inits(files: list[Path]) -> str:
    text = init_tables(read_comparisons(files)).rstrip()
    changed = {changed_options(read_json(path)) for path in files} - {''}
    lines = [f'Configs with {options}.' for options in sorted(changed)]
    return '\n\n'.join([*lines, text])


#: Title, folder, and what draws the folder's files.
_SECTIONS: tuple[tuple[str, str, Callable[[list[Path]], str]], ...] = (
    ('Probes', 'probes', probe_tables),
    ('Throughput', 'throughput', _throughput),
    ('Cost of a step, stage by stage', 'cost', cost_tables),
    ('Reading images', 'data', data_tables),
    ('Predicted time and memory on many GPUs', 'scaling', scaling_tables),
    ('Largest stable learning rate', 'stability', stability_tables),
    ('Inference with dropped tokens', 'inference', _inference),
    ('Accuracy with dropped tokens', 'drop_accuracy', _drop_accuracy),
    ('Consistency of predictions', 'consistency', _consistency),
    ('Numbers that runs logged', 'logs', _logs),
    ('Detection and segmentation', 'dense', dense_table),
    ('What a backbone starts from', 'inits', _inits),
)
