# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Evaluate a checkpoint of any config with test_* fields."""
import argparse

import mmengine
from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

from mmeffmae.checkpoint import register_safe_loader
from mmeffmae.engine.launch import (
    add_common_arguments,
    build_runner,
    init_processes,
    run_tool,
)
from mmeffmae.engine.tta import use_tta


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config with test_* fields')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='write to this .pkl or .json file')
    parser.add_argument(
        '--out-item', choices=['metrics', 'pred'],
        help='what --out receives; default: metrics for .json, else pred')
    parser.add_argument(
        '--tta', action='store_true',
        help='test-time augmentation: tta_model and tta_pipeline of the '
        'config; without them, the image and its mirror image')
    add_common_arguments(parser)
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace, cfg: Config) -> Runner:
    """Build the runner from the arguments."""
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.tta:
        use_tta(cfg)
    init_processes(cfg)
    register_safe_loader()
    return build_runner(cfg)


def test(args: argparse.Namespace, cfg: Config) -> None:
    """Evaluate and write what the arguments ask for."""
    runner = prepare(args, cfg)
    item = args.out_item or (
        'metrics' if str(args.out).endswith('.json') else 'pred')
    if args.out and item == 'pred':
        runner.test_evaluator.metrics.append(
            DumpResults(out_file_path=args.out))
    metrics = runner.test()
    if args.out and item == 'metrics' and runner.rank == 0:
        mmengine.dump(metrics, args.out)


def main() -> None:
    run_tool(parse_args(), False, test)


if __name__ == '__main__':
    main()
