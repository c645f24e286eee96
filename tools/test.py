# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Evaluate a checkpoint of any config with test_* fields."""
import argparse
from copy import deepcopy

import mmengine
from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

from mmeffmae.checkpoint import register_safe_loader
from mmeffmae.engine.launch import (
    ConfigError,
    add_common_arguments,
    build_runner,
    init_cpu_process_group,
    run_tool,
)


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
        'config; for classifiers without them, the mean over both flips')
    add_common_arguments(parser)
    return parser.parse_args(argv)


def use_tta(cfg: Config) -> None:
    """Wrap model and pipeline for test-time augmentation.

    Raises:
        ConfigError: The config has no ``tta_model`` or ``tta_pipeline`` and
            is not a classifier's.
    """
    if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
        if cfg.get('default_scope') != 'mmpretrain':
            raise ConfigError('--tta: the config has no tta_model and '
                              'tta_pipeline: add both')
        flips = [dict(type='RandomFlip', prob=p) for p in (1., 0.)]
        pipeline = deepcopy(cfg.test_dataloader.dataset.pipeline)
        pipeline[-1] = dict(
            type='TestTimeAug', transforms=[flips, [pipeline[-1]]])
        cfg.tta_pipeline = pipeline
        cfg.tta_model = dict(type='mmpretrain.AverageClsScoreTTA')
    # The hook wraps the model after its weights are loaded and checked.
    hook = dict(type='mmeffmae.TTAHook', tta_cfg=cfg.tta_model)
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), hook]
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    dataset.pipeline = cfg.tta_pipeline


def prepare(args: argparse.Namespace, cfg: Config) -> Runner:
    """Build the runner from the arguments."""
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.tta:
        use_tta(cfg)
    init_cpu_process_group(cfg)
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
