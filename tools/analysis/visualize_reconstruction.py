# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Draw images, what each view sees of them, and what the model predicts."""
import argparse
import sys

import torch
from mmengine.config import Config, DictAction

from mmeffmae.checkpoint.loading import CheckpointError
from mmeffmae.datasets.transforms import UnreadableImage
from mmeffmae.evaluation.building import build_model, load_weights
from mmeffmae.inference import loader_of, read_images
from mmeffmae.visualization import render_reconstruction, save_picture


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the pre-training')
    parser.add_argument('checkpoint', help='checkpoint of the whole model')
    parser.add_argument('images', nargs='+', help='image files')
    parser.add_argument(
        '--out', default='reconstruction.png', help='PNG to write')
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the masks')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='key=value')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = Config.fromfile(args.config)
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    model = build_model(config, device=args.device)
    _, report = load_weights(model, args.checkpoint)
    print(report)
    inputs = read_images(
        args.images, tuple(model.backbone.img_size), loader_of(config))
    batch = dict(inputs=inputs, data_samples=None)
    images = model.data_preprocessor(batch, False)['inputs']
    picture = render_reconstruction(model, images, args.seed)
    print(f'written: {save_picture(picture, args.out)} '
          f'(rows: images; columns: original, then seen and predicted by '
          'each view)')


if __name__ == '__main__':
    try:
        main()
    except (CheckpointError, FileNotFoundError, UnreadableImage) as error:
        sys.exit(f'error: {error}')
