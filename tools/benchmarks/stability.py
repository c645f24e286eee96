# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Find the largest learning rate at which each arm still trains.

    python tools/benchmarks/stability.py benchmarks/arms/clmae_stability_c.py

Every arm trains at its rate times 1, 2, 4, 8 and 16, constant after the
warm-up, with the same images and masks. One JSON file for each finished run;
what is there is not run again, and several processes share the work.
tools/benchmarks/draw.py draws the table.
"""
import argparse
import sys
from pathlib import Path

import torch
from mmengine.logging import MMLogger

from mmeffmae.benchmarks.claim import claim
from mmeffmae.benchmarks.stability import FACTORS, StabilityRun, stability_tables
from mmeffmae.benchmarks.study import Study


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('arms_file')
    parser.add_argument('--arms', nargs='+', help='default: all of the arms file')
    parser.add_argument(
        '--seeds', nargs='+', type=int, help='default: those of the arms file')
    parser.add_argument(
        '--factors', nargs='+', type=float, default=list(FACTORS),
        help='of the learning rate (default: %(default)s)')
    parser.add_argument(
        '--out', type=Path, default=Path('benchmarks/stability'),
        help='folder of the results (default: %(default)s)')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/stability'),
        help='folder of logs (default: %(default)s)')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    MMLogger.get_current_instance().setLevel('ERROR')
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    try:
        study = Study.from_file(args.arms_file)
        arms = args.arms or list(study.arms)
        if unknown := sorted(set(arms) - set(study.arms)):
            raise ValueError(f'--arms {" ".join(unknown)}: {args.arms_file} has '
                             f'{", ".join(study.arms)}')
        for seed in args.seeds or study.seeds:
            for arm in arms:
                for factor in args.factors:
                    run = StabilityRun(study, arm, factor, seed)
                    path = args.out / f'{run.name}.json'
                    with claim(args.work_dir / 'claims' / run.name, False) as mine:
                        if mine and not path.is_file():
                            print(f'{arm} x{factor:g} seed {seed} ...', flush=True)
                            run.measure(path, args.work_dir / run.name)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(stability_tables(sorted(args.out.glob(f'{study.path.stem}_*.json'))))


if __name__ == '__main__':
    main()
