# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Export the encoder of a pre-training checkpoint for the stock packages.

The file loads into ``mmpretrain.VisionTransformer`` inside mmpretrain, mmdet
and mmseg, where mmeffmae is not needed. The configs that use it are printed.
"""
import argparse
import sys

from mmeffmae.checkpoint import CheckpointError
from mmeffmae.checkpoint.export import export_backbone
from mmeffmae.checkpoint.interop import write_for
from mmeffmae.checkpoint.layouts import LAYOUTS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='file written by pre-training')
    parser.add_argument(
        '--config',
        help='config of the run; by default the text that the checkpoint '
        'carries, which is read without being executed')
    parser.add_argument(
        '--out', help='file to write; default CHECKPOINT_backbone.pth')
    parser.add_argument(
        '--prefix',
        default='backbone.',
        help="where the encoder's weights are in the checkpoint")
    parser.add_argument(
        '--also', nargs='+', choices=list(LAYOUTS), default=[],
        help='write the backbone for these libraries, too, beside the file')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    try:
        result = export_backbone(args.checkpoint, args.out, args.config,
                                 args.prefix)
        others = [write_for(layout, result.path) for layout in args.also]
    except (CheckpointError, FileNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(result.report)
    print(result.summary())
    for path in others:
        print(f'written to {path}')
    for snippet in result.snippets().values():
        print(f'\n{snippet.rstrip()}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
