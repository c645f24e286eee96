# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Judge one fine-tuned classifier at several drop ratios, against random drops.

    drop_accuracy.py CONFIG CHECKPOINT --drop-ratios 0 0.1 0.2 0.3 0.4 --json FILE

The weights stay the same: only the share of the tokens that leaves changes, and
whether the most redundant leave or random ones. CONFIG needs test_* fields and
the MaskedViT backbone. Speeds at these ratios: throughput.py --drop-ratios.
"""
import argparse
import sys
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger

from mmeffmae.checkpoint.loading import CheckpointError
from mmeffmae.config_hash import config_hash
from mmeffmae.evaluation.drop_accuracy import judge_ratios
from mmeffmae.evaluation.record import file_hash, provenance, write_json


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of a classifier')
    parser.add_argument('checkpoint', help='its fine-tuned weights')
    parser.add_argument(
        '--drop-ratios', nargs='+', type=float, metavar='RATIO',
        default=[0., 0.1, 0.2, 0.3, 0.4], help='default: %(default)s')
    parser.add_argument(
        '--seeds', nargs='+', type=int, default=[0, 1, 2],
        help='of random drops (default: %(default)s)')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='change settings of the config')
    parser.add_argument('--json', metavar='FILE', help='where to write')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    MMLogger.get_instance('drop_accuracy').setLevel('ERROR')
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    config = Config.fromfile(args.config)
    config.merge_from_dict(args.cfg_options or {})
    try:
        arms = judge_ratios(config, args.checkpoint, args.drop_ratios, args.seeds)
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
    for arm in arms:
        values = ' '.join(f'{value:.2f}' for value in arm['values'])
        print(f'{arm["drop_ratio"]:<5g} {arm["metric"]:<11} {values} %')
    if args.json:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        write_json(
            dict(
                kind='drop_accuracy',
                config=Path(args.config).stem,
                config_hash=config_hash(config),
                checkpoint=dict(path=args.checkpoint, hash=file_hash(args.checkpoint)),
                arms=arms,
                **provenance(device)), args.json)


if __name__ == '__main__':
    main()
