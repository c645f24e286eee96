# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Markdown tables of what the speed commands wrote."""
from pathlib import Path
from typing import Any

from .shards import read_json
from .tables import markdown_table


def machine_of(shard: dict) -> str:
    """The device that a shard was measured on."""
    machine = shard['machine']
    return machine['gpus'][0] if 'cuda' in shard['device'] else machine['cpu']


def cost_tables(files: list[Path]) -> str:
    """A table for every config of every cost map."""
    parts = []
    for path in files:
        of = read_json(path)
        for config in of['configs']:
            height, width = config['image_size']
            peak = config['peak']
            parts += [
                f'`{path.stem}`, {config["name"]}: {of["batch_size"]} images of '
                f'{height} x {width} px (files: {of["images"]}), {of["clock"]}, '
                f'{machine_of(of)}; floor at {peak["flops"] / 1e9:,.0f} GFLOP/s '
                f'({peak["dtype"]}) and {peak["bandwidth"] / 1e9:,.1f} GB/s.',
                cost_table(config)]
    return '\n\n'.join(parts)


def cost_table(config: dict[str, Any]) -> str:
    """One config's stages; the loading of data is no part of the step."""
    step = config['step_seconds']
    rows = [_cost_row(name, of, step['median'])
            for name, of in config['stages'].items()]
    whole = {
        key: sum(of[key] for of in config['stages'].values())
        for key in ('macs', 'saved_bytes', 'floor_seconds')
    }
    rows.append([
        'whole step',
        f'{1e3 * step["median"]:,.1f} ({1e3 * step["q1"]:,.1f} to '
        f'{1e3 * step["q3"]:,.1f})', '', '100',
        f'{whole["macs"] / 1e9:,.2f}', f'{whole["saved_bytes"] / 2**20:,.1f}',
        *_floor(whole['floor_seconds'], step['median'])])
    return markdown_table(
        ['stage', 'forward, ms', 'backward, ms', '% of the step', 'GMACs',
         'MiB saved', 'floor, ms', 'times the floor'], rows)


def _cost_row(name: str, of: dict[str, Any], step: float) -> list[str]:
    forward, backward = (
        of[f'{way}_seconds']['median'] for way in ('forward', 'backward'))
    share = '–' if name == 'data' else f'{100 * (forward + backward) / step:.1f}'
    return [
        name, f'{1e3 * forward:,.1f}', f'{1e3 * backward:,.1f}', share,
        f'{of["macs"] / 1e9:,.2f}', f'{of["saved_bytes"] / 2**20:,.1f}',
        *_floor(of['floor_seconds'], forward + backward)]


def _floor(floor: float, seconds: float) -> list[str]:
    if not floor:
        return ['–', '–']
    return [f'{1e3 * floor:,.1f}', f'{seconds / floor:.2f}']


def data_tables(files: list[Path]) -> str:
    """A table for every file of ``data_speed.py``."""
    parts = []
    for path in files:
        of = read_json(path)
        stored = (f'stored with a longest side of {of["stored_side"]} px'
                  if of['stored_side'] else 'as they are')
        parts += [
            f'`{path.stem}`: {of["images"]}, {stored}, to {of["size"]} px; one core '
            f'of {of["machine"]["cpu"]}, batches of {of["batch_size"]}.',
            data_table(of)]
    return '\n\n'.join(parts)


def data_table(of: dict[str, Any]) -> str:
    """Images a second by every way."""
    return markdown_table(
        ['way', 'images/s (quartiles)', 'ratio (quartiles)'],
        [[
            way['name'],
            '{median:,.0f} ({q1:,.0f} to {q3:,.0f})'.format(
                **way['images_per_second']),
            '{median:.2f} ({q1:.2f} to {q3:.2f})'.format(**way['ratio']),
        ] for way in of['ways']])


def scaling_tables(files: list[Path]) -> str:
    """A table for every file of ``predict_scale.py``."""
    parts = []
    for path in files:
        of = read_json(path)
        rates = of['assumed']
        parts += [
            f'`{path.stem}`: **predicted, not measured.** Counted: multiply-adds, '
            'weights, and bytes kept for the backward pass. Assumed: '
            f'{rates["flops"] / 1e12:,.0f} TFLOP/s a GPU in training, '
            f'{rates["bandwidth"] / 1e9:,.0f} GB/s of memory, '
            f'{rates["node_link"] / 1e9:,.0f} GB/s to GPUs of the node and '
            f'{rates["net_link"] / 1e9:,.0f} GB/s of each network card, '
            f'{rates["core_images"]:,.0f} images/s a CPU core. {of["batch"]:,} images '
            f'a step, {of["images"]:,} an epoch.',
            scaling_table(of)]
    return '\n\n'.join(parts)


def scaling_table(of: dict[str, Any]) -> str:
    """Predicted time and memory of every config."""
    return markdown_table(
        ['config', 'GPUs', 'strategy', 'images at once × accumulation',
         'minutes an epoch', 'images/s', '% waiting for links', 'GiB a GPU',
         'of it weights and moments', 'CPU cores a GPU'],
        [[
            config['name'],
            str(run['gpus']),
            run['strategy'] or '–',
            f'{run["micro_batch"]} × {run["accumulation"]}',
            f'{run["epoch_seconds"] / 60:,.2f}',
            f'{run["images_per_second"]:,.0f}',
            f'{100 * run["waited_seconds"] / run["step_seconds"]:.0f}',
            f'{run["memory_bytes"] / 2**30:,.1f}',
            f'{run["state_bytes"] / 2**30:,.1f}',
            f'{run["cores_per_gpu"]:.1f}',
        ] for config in of['configs'] for run in config['runs']])
