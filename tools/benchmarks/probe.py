# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Measure an encoder with probes and write the result as JSON.

    probe.py CONFIG CHECKPOINT --untrained --split final --probes finetune

Of the untrained encoder, the frozen probes are the floor, and fine-tuning is
supervised training from scratch with the same views, without layer-wise decay.
"""
import argparse
import dataclasses
import sys
import time

import torch
from mmengine.config import Config, DictAction

from mmeffmae.checkpoint.loading import CheckpointError
from mmeffmae.checkpoint.metadata import (
    checkpoint_preprocessing,
    preprocessing_differences,
    preprocessing_of_module,
)
from mmeffmae.config_hash import config_hash
from mmeffmae.evaluation.building import (
    build_model,
    config_seed,
    load_for_probes,
    probe_task,
)
from mmeffmae.evaluation.finetune import SCHEDULES, FinetuneSchedule
from mmeffmae.evaluation.probes import CHEAP_PROBES, PROBES, ProbeTask
from mmeffmae.evaluation.record import file_hash, provenance, write_json


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the pre-training')
    parser.add_argument(
        'checkpoint',
        help='training checkpoint or exported backbone, or "none" for the '
        'untrained encoder alone')
    parser.add_argument(
        '--untrained',
        action='store_true',
        help='measure the untrained encoder as well')
    parser.add_argument(
        '--probes', nargs='+', choices=list(PROBES),
        default=list(CHEAP_PROBES),
        help=f'{", ".join(PROBES)} (default: {" ".join(CHEAP_PROBES)})')
    parser.add_argument(
        '--split',
        choices=['monitor', 'final'],
        default='monitor',
        help='monitor: the datasets of the KNNMonitorHook; final: '
        'probe_bank and probe_query of the config, to be read once, at the '
        'end (default: %(default)s)')
    parser.add_argument(
        '--seed',
        type=int,
        help="seed of the run and of the untrained encoder (default: the "
        "config's, or 0)")
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--batch-size', type=int, default=256)
    parser.add_argument('--num-workers', type=int, default=0)
    parser.add_argument(
        '--scale', choices=list(SCHEDULES),
        help='schedule of fine-tuning: c for CPU cores, g for a GPU (default: '
        'by the device)')
    parser.add_argument(
        '--finetune', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='change that schedule: '
        f'{", ".join(field.name for field in dataclasses.fields(FinetuneSchedule))}')
    parser.add_argument('--json', metavar='FILE', help='where to write')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='key=value')
    return parser.parse_args()


def measure(task: ProbeTask, probes: list, name: str) -> dict:
    """Percent of each probe, printed as they come."""
    values = {}
    for probe in probes:
        start = time.perf_counter()
        values[probe] = round(PROBES[probe](task), 3)
        print(f'{name:<10} {probe:<15} {values[probe]:6.2f} %  '
              f'({time.perf_counter() - start:.1f} s)', flush=True)
    return values


def schedule_of(args: argparse.Namespace) -> FinetuneSchedule | None:
    """How to fine-tune, or None where nothing is."""
    if not any(probe.startswith('finetune') for probe in args.probes):
        return None
    scale = args.scale or ('c' if args.device == 'cpu' else 'g')
    try:
        return dataclasses.replace(SCHEDULES[scale], **(args.finetune or {}))
    except TypeError as error:
        raise ValueError(f'--finetune: {error}') from error


def main() -> None:
    args = parse_args()
    config = Config.fromfile(args.config)
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    seed = args.seed if args.seed is not None else config_seed(config) or 0
    schedule = schedule_of(args)
    model = build_model(config, seed, args.device)
    task = probe_task(
        config, model, args.split, args.device, schedule, seed=seed,
        batch_size=args.batch_size, num_workers=args.num_workers)
    trained = args.checkpoint != 'none'
    result = dict(
        config=args.config,
        config_hash=config_hash(config),
        seed=seed,
        split=args.split,
        bank_images=len(task.bank),
        query_images=len(task.query),
        values={},
        settings={})

    def add(encoder: str, task: ProbeTask) -> None:
        result['values'][encoder] = measure(task, args.probes, encoder)
        if task.settings:
            result['settings'][encoder] = task.settings

    if args.untrained or not trained:
        add('untrained', task.untrained())
    if trained:
        meta, report = load_for_probes(model, args.checkpoint, args.probes)
        print(report)
        for line in preprocessing_differences(
                checkpoint_preprocessing(dict(meta=meta)),
                preprocessing_of_module(model.data_preprocessor)):
            print(f'warning: preprocessing differs in {line}')
        result['checkpoint'] = dict(
            path=args.checkpoint,
            hash=file_hash(args.checkpoint),
            **{key: meta[key] for key in ('epoch', 'iter') if key in meta})
        add('trained', task)
    result.update(provenance(args.device))
    if args.json:
        write_json(result, args.json)
        print(f'written: {args.json}')


if __name__ == '__main__':
    try:
        main()
    except (CheckpointError, FileNotFoundError, NotImplementedError,
            ValueError) as error:
        sys.exit(f'error: {error}')
