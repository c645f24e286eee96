# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Train detectors and segmentors from a pre-trained and an untrained backbone.

Equal steps, images and seeds; one JSON file for each result under --out. What
is there is not measured again; tools/benchmarks/draw.py draws the table.
"""
import argparse
import subprocess
import sys
from pathlib import Path

from mmeffmae.benchmarks.dense import DenseRun


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'configs', nargs='+', type=Path,
        help='configs of detectors and segmentors')
    parser.add_argument(
        '--backbone', type=Path,
        help='file of tools/export_backbone.py; without it only untrained '
        'backbones are measured')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument(
        '--out', type=Path, default=Path('benchmarks/dense'),
        help='folder of the results (default: %(default)s)')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/dense'),
        help='folder of logs and checkpoints (default: %(default)s)')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
        help='as for tools/train.py')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    for path in (*args.configs, *filter(None, [args.backbone])):
        if not path.is_file():
            sys.exit(f'error: {path} is not a file')
    backbones = [args.backbone, None] if args.backbone else [None]
    for seed in args.seeds:
        for config in args.configs:
            for backbone in backbones:
                run = DenseRun(config, backbone, seed, tuple(args.cfg_options))
                try:
                    print(run.measure(args.out, args.work_dir), flush=True)
                except subprocess.CalledProcessError as error:
                    sys.exit(f'error: training failed ({error.returncode}): '
                             'its log is above')


if __name__ == '__main__':
    main()
