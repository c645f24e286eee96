# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Draw how far the inputs of every layer of a run are decorrelated.

    plot_decorrelation.py work_dirs/dbp_mae_quick --out decorrelation.png

Correlation, variance and distance of R from the identity, as the
DecorrelationHook of the run recorded them.
"""
import argparse
import sys
from pathlib import Path

from mmeffmae.visualization.curves import read_scalars
from mmeffmae.visualization.decorrelation import monitored_layers, plot_decorrelation
from mmeffmae.visualization.reconstruction import save_picture


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('run', type=Path, help='work directory of the run')
    parser.add_argument(
        '--out', default='decorrelation.png', help='PNG to write')
    args = parser.parse_args(argv)
    files = sorted(args.run.glob('*/vis_data/scalars.json'))
    if not files:
        sys.exit(f'error: {args.run} holds no */vis_data/scalars.json: give the '
                 'work directory of a training run')
    curves = read_scalars(files)
    try:
        picture = plot_decorrelation(curves)
    except ValueError as error:
        sys.exit(f'error: {args.run}: {error}')
    path = save_picture(picture, args.out)
    print(f'written: {path} ({len(monitored_layers(curves))} layers)')


if __name__ == '__main__':
    main()
