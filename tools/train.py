# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Pre-train, fine-tune, detect or segment: one entry for every config."""
import argparse

from mmengine.config import Config
from mmengine.runner import Runner

from mmeffmae.engine.launch import (
    add_common_arguments,
    run_tool,
    set_init,
    set_resume,
    use_amp,
)
from mmeffmae.engine.training import training_runner


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='training config')
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='continue from a checkpoint; without a value, from the last one '
        'of the work directory if there is one')
    parser.add_argument(
        '--init', metavar='FILE',
        help="weights of model.backbone: an exported backbone, or a vision "
        "transformer's file of timm, Hugging Face, DINOv2 or the original MAE")
    parser.add_argument(
        '--amp', action='store_true',
        help='mixed precision: bfloat16, for mmdet float16')
    parser.add_argument('--seed', type=int, help='sets randomness.seed')
    parser.add_argument(
        '--no-scale-lr', action='store_true',
        help='take the learning rate as it is; by default it is scaled from '
        'auto_scale_lr.base_batch_size to images x ranks x accumulation')
    parser.add_argument(
        '--no-validate', action='store_true',
        help='do not evaluate during training')
    add_common_arguments(parser)
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace, cfg: Config) -> Runner:
    """Build the runner from the arguments."""
    notes = set_resume(cfg, args.resume)
    if args.init is not None:
        set_init(cfg, args.init)
    if args.amp:
        use_amp(cfg)
    if args.seed is not None:
        cfg.merge_from_dict({'randomness.seed': args.seed})
    if args.no_validate:
        cfg.update(val_cfg=None, val_dataloader=None, val_evaluator=None)
    return training_runner(cfg, not args.no_scale_lr, notes)


def main() -> None:
    run_tool(parse_args(), True, lambda args, cfg: prepare(args, cfg).train())


if __name__ == '__main__':
    main()
