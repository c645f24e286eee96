# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Draw every table and picture of the results from the committed files.

    python tools/benchmarks/draw.py

Writes benchmarks/RESULTS.md and benchmarks/plots/, and a summary between the
markers of README.md. Equal files give equal tables.
"""
import argparse
import sys
from pathlib import Path

from mmeffmae.benchmarks.results import (
    MARKERS,
    draw_plots,
    draw_tables,
    fill_markers,
)
from mmeffmae.benchmarks.summary import draw_summary
from mmeffmae.benchmarks.target import TargetError

HEAD = ('# Results\n\nDrawn by `python tools/benchmarks/draw.py` from the files of '
        'this folder;\nwhat they hold is in [README.md](README.md).\n\n')


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=Path('benchmarks'))
    parser.add_argument(
        '--readme', type=Path, default=Path('README.md'),
        help=f'holds the lines {" and ".join(MARKERS)}')
    args = parser.parse_args(argv)
    try:
        (args.root / 'RESULTS.md').write_text(HEAD + draw_tables(args.root))
        written = [args.root / 'RESULTS.md', *draw_plots(args.root)]
        summary = draw_summary(args.root, plots=f'{args.root}/plots')
        text = args.readme.read_text()
        args.readme.write_text(fill_markers(text, summary, str(args.readme)))
    except (FileNotFoundError, TargetError, ValueError) as error:
        sys.exit(f'error: {error}')
    print('written:', *written, args.readme)


if __name__ == '__main__':
    main()
