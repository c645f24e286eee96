# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Train detectors and segmentors from pre-trained and untrained backbones.

    dense_compare.py CONFIG [CONFIG ...] --backbone um-mae=FILE simmim=FILE

Equal steps, images and seeds; one JSON file for each result under --out. What
is there is not measured again; tools/benchmarks/draw.py draws the table.
"""
import argparse
import subprocess
import sys
from itertools import product
from pathlib import Path

from mmeffmae.benchmarks.dense import DenseRun


def named_file(text: str) -> tuple[str, Path]:
    """``NAME=FILE`` or ``FILE``."""
    name, equals, path = text.partition('=')
    return (name, Path(path)) if equals else ('pretrained', Path(text))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'configs', nargs='+', type=Path,
        help='configs of detectors and segmentors')
    parser.add_argument(
        '--backbone', nargs='+', type=named_file, default=[], metavar='[NAME=]FILE',
        help='files of tools/export_backbone.py; NAME is pretrained by default; '
        'without any only untrained backbones are measured')
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
    backbones = dict(args.backbone)
    if len(backbones) < len(args.backbone) or 'untrained' in backbones:
        sys.exit('error: --backbone: give each file a name of its own, NAME=FILE, '
                 'and none the name untrained')
    for path in (*args.configs, *backbones.values()):
        if not path.is_file():
            sys.exit(f'error: {path} is not a file')
    for seed, config in product(args.seeds, args.configs):
        for name, backbone in [*backbones.items(), ('untrained', None)]:
            run = DenseRun(config, backbone, seed, tuple(args.cfg_options), name)
            try:
                print(run.measure(args.out, args.work_dir), flush=True)
            except subprocess.CalledProcessError as error:
                sys.exit(f'error: training failed ({error.returncode}): '
                         'its log is above')


if __name__ == '__main__':
    main()
