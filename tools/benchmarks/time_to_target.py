# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Compare arms by the time to a target that is fixed before the comparison.

    python tools/benchmarks/time_to_target.py benchmarks/arms/scale_c.py

Stages: time the steps of all arms in turns; tune each arm's learning rate;
train, with cooldown branches that are probed on held-out photographs, the
baseline first; report. Finished pieces are kept as JSON shards and skipped by
the next call, so the command can be stopped at any moment and run again, also
several times at once on one machine. The stage "final" reads the validation
photographs once, at the very end.
"""
import argparse
import sys
from pathlib import Path

import torch
from mmengine.logging import MMLogger

from mmeffmae.benchmarks.grid import Grid, TimeIsUp
from mmeffmae.benchmarks.shards import Shards
from mmeffmae.benchmarks.study import Study
from mmeffmae.benchmarks.tables import study_tables
from mmeffmae.benchmarks.target import TargetError

STAGES = ('time', 'tune', 'train', 'report', 'final')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('arms_file', help='such as benchmarks/arms/scale_c.py')
    parser.add_argument(
        '--stages', nargs='+', choices=STAGES, default=list(STAGES[:4]),
        help='default: all but final')
    parser.add_argument('--arms', nargs='+', help='default: all of the arms file')
    parser.add_argument(
        '--seeds', nargs='+', type=int, help='default: those of the arms file')
    parser.add_argument(
        '--shards', type=Path, metavar='FOLDER',
        help='default: benchmarks/time_to_target/NAME of the arms file')
    parser.add_argument(
        '--work-dir', type=Path, metavar='FOLDER',
        help='checkpoints and logs; default: work_dirs/time_to_target/NAME')
    parser.add_argument(
        '--stop-after', type=float, default=float('inf'), metavar='SECONDS',
        help='begin no further piece after that long')
    parser.add_argument(
        '--rounds', type=int, default=21, help='timed steps of every arm')
    parser.add_argument(
        '--country', metavar='ISO3',
        help='where the machine stands, such as DEU: adds CO2 by CodeCarbon')
    return parser.parse_args(argv)


def work(args: argparse.Namespace) -> None:
    """Do the stages in their order."""
    study = Study.from_file(args.arms_file)
    arms = args.arms or list(study.arms)
    if unknown := sorted(set(arms) - set(study.arms)):
        raise ValueError(f'--arms {" ".join(unknown)}: {args.arms_file} has '
                         f'{", ".join(study.arms)}')
    seeds = args.seeds or list(study.seeds)
    if study.tune_seed in seeds:
        raise ValueError(f'--seeds {study.tune_seed} is the tune_seed of '
                         f'{args.arms_file}: use another')
    name = study.path.stem
    shards = Shards(args.shards or Path('benchmarks/time_to_target', name))
    grid = Grid(study, shards,
                args.work_dir or Path('work_dirs/time_to_target', name),
                args.stop_after, args.country)
    if 'time' in args.stages:
        grid.time_steps(args.rounds)
    if 'tune' in args.stages:
        grid.tune(arms)
    if 'train' in args.stages:
        grid.train(arms, seeds)
    if 'final' in args.stages:
        grid.read_final(arms, seeds)
    if 'report' in args.stages:
        print(study_tables(shards))


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    # Without it, mmengine tells of every variable in every config it reads.
    MMLogger.get_current_instance().setLevel('ERROR')
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    try:
        work(args)
    except (FileNotFoundError, TargetError, ValueError) as error:
        sys.exit(f'error: {error}')
    except TimeIsUp as stop:
        sys.exit(str(stop))


if __name__ == '__main__':
    main()
