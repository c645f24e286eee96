# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Where the time and the memory of a training step go, stage by stage.

    cost_map.py CONFIG [CONFIG ...] --images FOLDER --json FILE

Runs whole iterations of the runner, hooks and loading of data included, and
prints for every stage its time forward and backward, its multiply-adds, what it
keeps for the backward pass, and the floor: multiply-adds over the best rate of
large products, or bytes of weights and kept tensors over the bandwidth,
whichever is more. On the CPU with one thread and on the clock of CPU time.
"""
import argparse
import gc
import tempfile
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.device import get_device

from mmeffmae.benchmarks.cost_map import (
    machine_load,
    map_costs,
    step_config,
    write_noise,
)
from mmeffmae.benchmarks.speed_tables import cost_table
from mmeffmae.config_hash import config_hash
from mmeffmae.evaluation.record import provenance, write_json


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument(
        '--images', metavar='FOLDER',
        help='what the data stage reads; by default noise of 500 x 375 px')
    parser.add_argument('--batch-size', type=int, default=8, metavar='N')
    parser.add_argument('--rounds', type=int, default=5, help='timed iterations')
    parser.add_argument('--warmup', type=int, default=1, help='iterations before')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='change settings of all configs')
    parser.add_argument('--json', metavar='FILE', help='where to write')
    args = parser.parse_args(argv)
    for name in ('batch_size', 'rounds', 'warmup'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if get_device() == 'cpu':
        torch.set_num_threads(1)
    load = [machine_load()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, 'images')
        folder.mkdir()
        if args.images is None:
            write_noise(folder, 2 * args.batch_size)
        results = []
        for path in args.configs:
            config = step_config(
                path, args.cfg_options, args.batch_size, args.images or str(folder))
            result = map_costs(
                config, Path(name, Path(path).stem), args.rounds, args.warmup)
            results.append(
                dict(name=Path(path).stem, config_hash=config_hash(config), **result))
            print(f'{Path(path).stem}\n{cost_table(results[-1])}\n', flush=True)
            gc.collect()
    load.append(machine_load())
    print(f'load of the machine: {load[0]:.1f} at first, {load[1]:.1f} at last')
    if args.json:
        write_json(
            dict(
                kind='cost',
                batch_size=args.batch_size,
                rounds=args.rounds,
                images=Path(args.images).name if args.images else
                'noise of 500 x 375 px',
                clock='CPU time of one thread' if get_device() == 'cpu' else
                'events of the GPU',
                load=load,
                configs=results,
                **provenance(get_device())), args.json)
        print(f'written: {args.json}')


if __name__ == '__main__':
    main()
