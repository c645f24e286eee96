# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Pre-train on a folder of images: check it, plan, train, export, report.

    pretrain_folder.py /path/to/photographs --minutes 600

What is not asked for is chosen from the images, the memory and measured steps,
and printed with its reason. The same command again goes on where a run stopped.
"""
import argparse
import sys
from pathlib import Path

import torch
from mmengine.config import DictAction

from mmeffmae.checkpoint import CheckpointError
from mmeffmae.engine.launch import ConfigError
from mmeffmae.folder.recipe import ENCODERS, METHODS
from mmeffmae.folder.request import Request
from mmeffmae.folder.session import Session
from mmeffmae.folder.survey import MIN_SIDE


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'folder', type=Path, help='images, in sub-folders or not')
    parser.add_argument(
        '--minutes', type=float,
        help='time for everything, from the survey to the report (default: as long '
        'as 300 epochs take)')
    parser.add_argument('--method', choices=list(METHODS))
    parser.add_argument('--encoder', choices=list(ENCODERS))
    parser.add_argument(
        '--init', metavar='FILE',
        help="weights to go on from: an exported backbone, or a vision transformer's "
        'file of timm, Hugging Face, DINOv2 or the original MAE; the decoder warms up '
        'first')
    parser.add_argument('--img-size', type=int, help='pixels a side')
    parser.add_argument('--patch-size', type=int, help='pixels a side')
    parser.add_argument('--batch-size', type=int, help='images of an update')
    parser.add_argument('--epochs', type=int)
    parser.add_argument('--lr', type=float, help='peak learning rate')
    parser.add_argument('--workers', type=int, help='processes that load images')
    parser.add_argument(
        '--progressive', action='store_true',
        help='train on images of half the side first, whose steps take a quarter to '
        'half of the time')
    parser.add_argument(
        '--images', choices=['files', 'device'],
        help='read files in every epoch, or once and keep the photographs on the '
        'device (default: device where that saves time on a GPU and it has room)')
    parser.add_argument('--precision', choices=['bf16', 'fp32'])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--memory', type=float, metavar='GIB',
        help='memory of the device to use (default: most of what is free)')
    parser.add_argument(
        '--channels', type=int,
        help='bands of the images (default: those of most); 3 reads photographs')
    parser.add_argument(
        '--min-side', type=int, default=MIN_SIDE,
        help='skip images with a side of fewer pixels (default: %(default)s)')
    parser.add_argument(
        '--drop-duplicates', action='store_true',
        help='leave out near-duplicates of other images')
    parser.add_argument(
        '--work-dir', type=Path, help='default: work_dirs/folder_NAME')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='change settings of the config, as for tools/train.py')
    parser.add_argument(
        '--dry-run', action='store_true', help='print the plan and stop')
    args = parser.parse_args(argv)
    for name in ('minutes', 'epochs', 'batch_size', 'img_size', 'patch_size', 'lr',
                 'memory', 'channels'):
        value = getattr(args, name)
        if value is not None and value <= 0:
            parser.error(f'--{name.replace("_", "-")} {value}: use more than 0')
    return args


def session_of(args: argparse.Namespace) -> Session:
    """The session that the arguments describe."""
    request = Request(
        minutes=args.minutes, method=args.method, encoder=args.encoder,
        init=args.init, img_size=args.img_size, patch_size=args.patch_size,
        batch_size=args.batch_size, epochs=args.epochs, lr=args.lr,
        workers=args.workers, precision=args.precision,
        progressive=args.progressive or None, images=args.images, seed=args.seed,
        options=args.cfg_options)
    name = args.folder.expanduser().absolute().name
    return Session(
        args.folder.expanduser(), args.work_dir or Path(f'work_dirs/folder_{name}'),
        request, args.channels, args.min_side, args.drop_duplicates, args.memory)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        session_of(args).run(args.dry_run)
    except (ConfigError, CheckpointError, OSError, FloatingPointError) as error:
        sys.exit(f'error: {error}')
    except torch.cuda.OutOfMemoryError as error:
        sys.exit(f'error: {error}\nThe GPU had more memory when the run was planned. '
                 'The same command goes on when it is free again; with less memory, '
                 'plan anew: another --work-dir, and --memory GIB')


if __name__ == '__main__':
    main()
