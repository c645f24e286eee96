# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Write one self-contained page about a run, from the files it left."""
import argparse
import sys
from pathlib import Path

from mmeffmae.evaluation.downstream import DownstreamRun
from mmeffmae.visualization.report import Run, build_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'work_dir',
        help='work directory of tools/train.py; probe.json and backbone.pth '
        'in it are shown as well')
    parser.add_argument(
        '--out', help='page to write (default: WORK_DIR/report.html)')
    parser.add_argument(
        '--downstream', nargs='+', default=[], metavar='DIR',
        help='work directories of detectors and segmentors to show as well')
    args = parser.parse_args()
    out = Path(args.out or Path(args.work_dir) / 'report.html')
    page = build_report(
        Run(args.work_dir), [DownstreamRun.read(d) for d in args.downstream])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding='utf-8')
    print(f'written: {out}')


if __name__ == '__main__':
    try:
        main()
    except FileNotFoundError as error:
        sys.exit(f'error: {error}')
