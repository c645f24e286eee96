# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Predict time and memory of an epoch on many GPUs. A prediction, no result.

    predict_scale.py CONFIG [CONFIG ...] --gpus 1 8 64 --json FILE

Counts the work and the memory of an image, and divides by rates that are given.
Configs with a strategy are predicted with FSDP, others with DDP.
Put in your own: --tflops from `throughput.py` on one GPU (6 x GMACs an image x
images/s of plain MAE), --core-images from `data_speed.py`. The matrices of
decorrelation are left out.
"""
import argparse
import gc
from dataclasses import asdict
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmeffmae.benchmarks.scaling import Machine, count_parts, predict
from mmeffmae.benchmarks.speed_tables import scaling_table
from mmeffmae.config_hash import config_hash
from mmeffmae.evaluation.record import provenance, write_json


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument('--gpus', nargs='+', type=int, default=[1, 8, 64])
    parser.add_argument('--batch', type=int, default=4096, help='images of a step')
    parser.add_argument(
        '--images', type=int, default=1_281_167, help='of an epoch')
    parser.add_argument(
        '--tflops', type=float, default=300.,
        help='TFLOP/s that training reaches in bfloat16, on one GPU')
    parser.add_argument(
        '--bandwidth', type=float, default=3000., help='GB/s of its memory')
    parser.add_argument(
        '--node-link', type=float, default=300., help='GB/s within a node')
    parser.add_argument(
        '--net-link', type=float, default=25., help="GB/s of a GPU's network card")
    parser.add_argument(
        '--core-images', type=float, default=600.,
        help='images/s that a CPU core loads')
    parser.add_argument('--json', metavar='FILE', help='where to write')
    args = parser.parse_args(argv)
    if odd := [n for n in args.gpus if n < 1 or args.batch % n]:
        parser.error(f'--gpus {odd[0]} does not divide --batch {args.batch}')
    return args


def predictions(config: Config, machine: Machine, args: argparse.Namespace) -> dict:
    """Parts of a config, and its predictions on every number of GPUs."""
    parts = count_parts(config)
    runs = [
        predict(parts, machine, gpus, args.batch, config.train_dataloader.batch_size,
                sharded=gpus > 1 and 'strategy' in config) for gpus in args.gpus
    ]
    for run in runs:
        run['epoch_seconds'] = args.images / run['images_per_second']
    return dict(parts=asdict(parts), runs=runs)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    MMLogger.get_instance('predict_scale').setLevel('ERROR')
    torch.set_num_threads(1)
    machine = Machine(
        flops=1e12 * args.tflops, bandwidth=1e9 * args.bandwidth,
        node_link=1e9 * args.node_link, net_link=1e9 * args.net_link,
        core_images=args.core_images)
    configs = []
    for path in args.configs:
        config = Config.fromfile(path)
        configs.append(
            dict(name=Path(path).stem, config_hash=config_hash(config),
                 **predictions(config, machine, args)))
        gc.collect()
    result = dict(
        kind='prediction', batch=args.batch, images=args.images,
        assumed=asdict(machine), configs=configs, **provenance('cpu'))
    print(scaling_table(result))
    if args.json:
        write_json(result, args.json)
        print(f'written: {args.json}')


if __name__ == '__main__':
    main()
