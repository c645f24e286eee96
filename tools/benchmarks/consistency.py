# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Measure how far predictions of the same patch under several masks differ.

    consistency.py CONFIG CHECKPOINT --versus CONFIG CHECKPOINT --json FILE

Works for every model that predicts pixels, however it masked in training.
Prints each number with its 95 % interval over photographs; with --versus also
difference and ratio of the two models, paired by photograph.
"""
import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import BaseDataset

from mmeffmae.checkpoint.loading import CheckpointError
from mmeffmae.config_hash import config_hash
from mmeffmae.evaluation.building import build_model, load_weights, probe_datasets
from mmeffmae.evaluation.consistency import (
    compare,
    evenly_spaced,
    measure_consistency,
    summarise,
)
from mmeffmae.evaluation.record import file_hash, provenance, write_json


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the pre-training')
    parser.add_argument('checkpoint', help='training checkpoint, with decoder')
    parser.add_argument(
        '--versus', nargs=2, metavar=('CONFIG', 'CHECKPOINT'),
        help='another model, on the same photographs')
    parser.add_argument(
        '--split', choices=['monitor', 'final'], default='final',
        help='final: the validation photographs, probe_query of the config; '
        'monitor: those of the KNNMonitorHook (default: %(default)s)')
    parser.add_argument(
        '--photographs', type=int, default=500,
        help='evenly spaced in the sorted list (default: %(default)s)')
    parser.add_argument(
        '--partitions', type=int, default=8,
        help='of every photograph (default: %(default)s)')
    parser.add_argument(
        '--parts', type=int, default=4,
        help='disjoint visible parts of a partition (default: %(default)s)')
    parser.add_argument(
        '--seed', type=int, default=0, help='of the partitions')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--batch-size', type=int, default=25, help='photographs at a time')
    parser.add_argument('--num-workers', type=int, default=0)
    parser.add_argument('--json', metavar='FILE', help='where to write')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction,
        help='key=value, for both configs')
    args = parser.parse_args()
    for name in ('photographs', 'partitions', 'parts', 'batch_size'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    return args


def names_of(dataset: BaseDataset, indices: list[int]) -> list[str]:
    """Class folder and file name of each photograph."""
    paths = [dataset.get_data_info(index)['img_path'] for index in indices]
    return ['/'.join(Path(path).parts[-2:]) for path in paths]


def measure(
    args: argparse.Namespace, path: str, checkpoint: str
) -> tuple[dict, dict[str, np.ndarray], list[str]]:
    """Result, values of each photograph, and their names."""
    config = Config.fromfile(path)
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    model = build_model(config, device=args.device)
    _, report = load_weights(model, checkpoint)
    print(report)
    dataset = probe_datasets(config, args.split)[1]
    indices = evenly_spaced(len(dataset), args.photographs)
    values = measure_consistency(
        model, dataset, indices, args.partitions, args.parts, args.seed,
        args.device, args.batch_size, args.num_workers)
    result = dict(
        config=path,
        config_hash=config_hash(config),
        checkpoint=dict(path=checkpoint, hash=file_hash(checkpoint)),
        numbers=summarise(values),
        by_photograph={
            name: [float(f'{value:.6g}') for value in of]
            for name, of in values.items()
        })
    return result, values, names_of(dataset, indices)


def show(title: str, numbers: dict) -> None:
    """Print numbers with their intervals."""
    print(title)
    for name, of in numbers.items():
        print(f'  {name:<18} {of["value"]:9.5f}   95 %: {of["low"]:9.5f} .. '
              f'{of["high"]:9.5f}')


def main() -> None:
    args = parse_args()
    result, values, names = measure(args, args.config, args.checkpoint)
    show(f'{args.config} ({len(names)} photographs)', result['numbers'])
    result = dict(
        kind='consistency',
        split=args.split,
        photographs=len(names),
        photographs_hash=hashlib.sha256(
            '\n'.join(names).encode()).hexdigest()[:12],
        partitions=args.partitions,
        parts=args.parts,
        seed=args.seed,
        model=result)
    if args.versus:
        other, other_values, other_names = measure(args, *args.versus)
        if names != other_names:
            raise ValueError(
                f'{args.config} and {args.versus[0]} name different '
                f'photographs for the split {args.split}: they cannot be '
                'compared in pairs')
        show(args.versus[0], other['numbers'])
        paired = compare(values, other_values)
        for kind in ('difference', 'ratio'):
            show(f'{kind} of the first to the second',
                 {name: of[kind] for name, of in paired.items()})
        result.update(versus=other, paired=paired)
    result.update(provenance(args.device))
    if args.json:
        write_json(result, args.json)
        print(f'written: {args.json}')


if __name__ == '__main__':
    try:
        main()
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
