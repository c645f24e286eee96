# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Images a second that one core reads, decodes and crops, by several ways.

    data_speed.py FOLDER --size 224 --stored-side 500 --json FILE

No worker processes, one thread, the clock of CPU time (of the GPU for images
that lie on it): multiply by the cores that load. A run waits for data where its
images a second are more than that.
"""
import argparse
import tempfile
from pathlib import Path

import torch
from mmengine.device import get_device
from mmengine.registry import init_default_scope

from mmeffmae.benchmarks.cost_map import machine_load
from mmeffmae.benchmarks.data_speed import measure_data, store_at
from mmeffmae.benchmarks.speed_tables import data_table
from mmeffmae.evaluation.record import provenance, write_json


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='photographs')
    parser.add_argument('--size', type=int, default=224, help='side of the crops')
    parser.add_argument(
        '--stored-side', type=int, metavar='N',
        help='first write the photographs with this longest side')
    parser.add_argument('--number', type=int, default=256, help='photographs used')
    parser.add_argument('--batch-size', type=int, default=64, metavar='N')
    parser.add_argument('--rounds', type=int, default=5, help='batches of each way')
    parser.add_argument('--json', metavar='FILE', help='where to write')
    args = parser.parse_args(argv)
    for name in ('size', 'number', 'batch_size', 'rounds'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(1)
    init_default_scope('mmpretrain')
    load = [machine_load()]
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder
        if args.stored_side:
            folder = Path(name, 'stored')
            store_at(args.folder, folder, args.stored_side, args.number)
        ways = measure_data(
            folder, Path(name, 'packed.tar'), args.size, args.batch_size, args.rounds)
    load.append(machine_load())
    result = dict(
        kind='data', images=args.folder.name, stored_side=args.stored_side,
        size=args.size, batch_size=args.batch_size, rounds=args.rounds, load=load,
        ways=ways, **provenance(get_device()))
    print(data_table(result))
    print(f'\nload of the machine: {load[0]:.1f} at first, {load[1]:.1f} at last')
    if args.json:
        write_json(result, args.json)
        print(f'written: {args.json}')


if __name__ == '__main__':
    main()
