# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Train the same classifier, detector or segmentor from several backbones.

    compare_inits.py CONFIG --public FILE --scratch FILE --continued FILE

From each file, and from an untrained backbone, with 10 % and all of the labels:
equal steps, images and seeds. One JSON file for each result under --out, a table
with its conclusion, table.md, and a plot. What is there is not measured again.

CONFIG is one of a detector or segmentor, or one of a pre-training, whose encoder
is fine-tuned as a classifier on the datasets it names or on --labelled folders.
"""
import argparse
import dataclasses
import subprocess
import sys
from itertools import product
from pathlib import Path

import torch
from mmengine.config import DictAction

from mmeffmae.benchmarks.dense import parsed_options
from mmeffmae.benchmarks.inits import (
    check_backbones,
    init_tables,
    plot_inits,
    read_comparisons,
    runs_of,
    stock_files,
)
from mmeffmae.checkpoint import CheckpointError
from mmeffmae.checkpoint.licences import licence_of
from mmeffmae.checkpoint.loading import load_checkpoint_safely
from mmeffmae.evaluation.finetune import SCHEDULES


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', type=Path)
    parser.add_argument(
        '--public', type=Path, metavar='FILE',
        help='weights of others: of timm, Hugging Face, DINOv2 or the original MAE')
    parser.add_argument(
        '--scratch', type=Path, metavar='FILE',
        help='exported backbone that was pre-trained from nothing')
    parser.add_argument(
        '--continued', type=Path, metavar='FILE',
        help='exported backbone that was pre-trained from public weights')
    parser.add_argument(
        '--shares', nargs='+', type=float, default=[0.1, 1.0],
        help='of the training labels (default: 0.1 1)')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument(
        '--labelled', nargs=2, type=Path, metavar=('TRAIN', 'VAL'),
        help='folders of one sub-folder a class, for classifiers')
    parser.add_argument(
        '--scale', choices=list(SCHEDULES),
        help='schedule of classifiers: c for CPU cores, g for a GPU (default: by the '
        'device)')
    parser.add_argument(
        '--finetune', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='change that schedule, such as views=5000')
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/inits/results'),
        help='folder of the results (default: %(default)s)')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/inits'),
        help='folder of logs and checkpoints (default: %(default)s)')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
        help='as for tools/train.py')
    return parser.parse_args(argv)


def compare(args: argparse.Namespace) -> None:
    """Measure everything, and draw table and plot after each result."""
    files = {name: getattr(args, name) for name in ('public', 'scratch', 'continued')}
    for name, path in files.items():
        if path is not None:
            licence = licence_of(path, load_checkpoint_safely(path))
            print(f'{name}: {path}, licence {licence}')
    backbones = stock_files(files, args.work_dir / 'backbones')
    for config in args.configs:
        check_backbones(config, parsed_options(args.cfg_options), backbones)
    scale = args.scale or ('c' if args.device == 'cpu' else 'g')
    schedule = dataclasses.replace(SCHEDULES[scale], **(args.finetune or {}))
    runs = len(args.seeds) * len(args.configs) * len(args.shares) * len(backbones)
    print(f'{runs} runs; a classifier takes {schedule.steps:,} steps of '
          f'{schedule.batch_size} images in each: --finetune views=N for fewer')
    shards = []
    for seed, config, share in product(args.seeds, args.configs, args.shares):
        for run in runs_of(
                config, backbones, share, seed, args.cfg_options,
                parsed_options(args.cfg_options), schedule,
                args.labelled and tuple(args.labelled), args.device):
            shards.append(run.measure(args.out, args.work_dir))
            print(shards[-1], flush=True)
            draw(shards, args.out)
    print(draw(shards, args.out))


def draw(shards: list[Path], out: Path) -> str:
    """Write table.md and plot.png; returns the table."""
    comparisons = read_comparisons(shards)
    table = init_tables(comparisons)
    (out / 'table.md').write_text(
        f'{table}\n![Against the share of the labels](plot.png)\n', encoding='utf-8')
    plot_inits(comparisons, out / 'plot.png')
    return table


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    missing = [path for path in args.configs if not path.is_file()]
    if missing:
        sys.exit(f'error: {missing[0]} is not a file')
    try:
        compare(args)
    except subprocess.CalledProcessError as error:
        sys.exit(f'error: training failed ({error.returncode}): its log is above')
    except torch.cuda.OutOfMemoryError as error:
        sys.exit(f'error: {error}\nSmaller steps of all runs: '
                 '--finetune batch_size=64 lr=1e-3')
    except (CheckpointError, FileNotFoundError, TypeError, ValueError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
