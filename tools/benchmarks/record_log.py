# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Keep numbers that a training run logged as a result file.

    record_log.py WORK_DIR loss target_cos_image target_cos_batch --json FILE

The numbers are those of the work directory's */vis_data/scalars.json.
"""
import argparse
import json
import sys
from pathlib import Path

from mmeffmae.evaluation.record import provenance, write_json
from mmeffmae.visualization.curves import read_scalars


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dir', type=Path, help='of a run of tools/train.py')
    parser.add_argument('names', nargs='+', help='as the log names them')
    parser.add_argument('--json', metavar='FILE', required=True, help='where to write')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    curves = read_scalars(sorted(args.work_dir.glob('*/vis_data/scalars.json')))
    if missing := [name for name in args.names if name not in curves]:
        sys.exit(f'error: {args.work_dir} has no {", ".join(missing)} in its log '
                 f'(*/vis_data/scalars.json): it has {", ".join(curves) or "none"}')
    run = json.loads((args.work_dir / 'environment.json').read_text())
    write_json(
        dict(
            kind='log',
            config=run['config'],
            config_hash=run['config_hash'],
            seed=run['seed'],
            train_command=['python', *run['command'][1:]],
            curves={
                name: dict(iterations=list(curves[name][0]),
                           values=[round(value, 6) for value in curves[name][1]])
                for name in args.names
            },
            **provenance()), args.json)
    print(f'written: {args.json}')


if __name__ == '__main__':
    main()
