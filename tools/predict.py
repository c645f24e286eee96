# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Classify, detect, segment, reconstruct or embed an image or a folder."""
import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, DictAction

from mmeffmae.checkpoint.loading import CheckpointError
from mmeffmae.datasets.transforms.load_image import UnreadableImage
from mmeffmae.evaluation.building import build_model, load_weights
from mmeffmae.evaluation.record import write_json
from mmeffmae.inference import (
    Predictor,
    embed_images,
    list_images,
    loader_of,
    near_duplicates,
    nearest_neighbours,
    read_images,
)
from mmeffmae.inference.predictor import task_of
from mmeffmae.visualization import render_reconstruction, save_picture

TASKS = ('classify', 'detect', 'segment', 'reconstruct', 'embed')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the model')
    parser.add_argument(
        'checkpoint', help='checkpoint of the whole model; for embed an '
        'exported backbone, too')
    parser.add_argument('input', help='image, or folder of images')
    parser.add_argument(
        '--task', choices=TASKS, help='default: what the config is for; embed '
        'writes features, nearest neighbours and near-duplicates')
    parser.add_argument('--out', default='predictions', help='folder to write')
    parser.add_argument(
        '--score-thr', type=float, default=0.3,
        help='smallest score of a detection (default: %(default)s)')
    parser.add_argument(
        '--neighbours', type=int, default=5,
        help='nearest images of each image (default: %(default)s)')
    parser.add_argument(
        '--duplicate-thr', type=float, default=0.98,
        help='smallest cosine of near-duplicates (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='seed of masks')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='key=value')
    return parser.parse_args(argv)


def target(file: Path, root: Path, out: Path) -> Path:
    """Where the picture of a file goes, below the folders it has."""
    local = file.relative_to(root) if root.is_dir() else Path(file.name)
    return out / f'{local}.png'


def predict(args: argparse.Namespace, config: Config, files: list[Path]) -> list[str]:
    """Write a picture an image, class maps, and predictions.json."""
    predictor = Predictor(
        config, args.checkpoint, args.device, args.score_thr)
    print(predictor.report)
    found, unreadable = {}, []
    for file in files:
        try:
            sample = predictor(file)
        except UnreadableImage as error:
            unreadable.append(str(error))
            continue
        path = target(file, Path(args.input), Path(args.out))
        save_picture(predictor.draw(sample), path)
        if predictor.task == 'segment':
            classes = sample.pred_sem_seg.data[0].numpy().astype('uint8')
            save_picture(classes, path.with_suffix('.classes.png'))
        found[str(file)] = predictor.describe(sample)
    write_json(found, Path(args.out) / 'predictions.json')
    return unreadable


def reconstruct(args: argparse.Namespace, config: Config,
                files: list[Path]) -> list[str]:
    """Write a picture an image: original, then seen and predicted by view."""
    model = build_model(config, device=args.device)
    if not hasattr(model, 'reconstruct'):
        raise ValueError(f'{type(model).__name__} predicts no pixels, so it '
                         'reconstructs nothing: use --task embed')
    print(load_weights(model, args.checkpoint)[1])
    unreadable = []
    for file in files:
        try:
            inputs = read_images(
                [file], tuple(model.backbone.img_size), loader_of(config))
        except UnreadableImage as error:
            unreadable.append(str(error))
            continue
        batch = dict(inputs=inputs, data_samples=None)
        images = model.data_preprocessor(batch, False)['inputs']
        save_picture(render_reconstruction(model, images, args.seed),
                     target(file, Path(args.input), Path(args.out)))
    return unreadable


def embed(args: argparse.Namespace, config: Config, files: list[Path]) -> list[str]:
    """Write embeddings.npz, neighbours.json and near_duplicates.json."""
    config.model.backbone.init_cfg = None
    model = build_model(config, device=args.device)
    print(load_weights(model.backbone, args.checkpoint, 'backbone.')[1])
    features, kept, unreadable = embed_images(
        model, files, load=loader_of(config))
    names = [str(file) for file in kept]
    out = Path(args.out)
    indices, cosines = nearest_neighbours(features, args.neighbours)
    write_json({
        name: [[names[i], round(cosine, 4)] for i, cosine in zip(row, values)]
        for name, row, values in zip(names, indices.tolist(), cosines.tolist())
    }, out / 'neighbours.json')
    pairs = near_duplicates(features, args.duplicate_thr)
    write_json([[names[i], names[j], round(cosine, 4)] for i, j, cosine in pairs],
               out / 'near_duplicates.json')
    np.savez(out / 'embeddings.npz', features=features.numpy(), files=names)
    print(f'{len(names)} images, {features.shape[1]} features each; '
          f'{len(pairs)} pairs of near-duplicates')
    return unreadable


def main() -> None:
    args = parse_args()
    try:
        files = list_images(args.input)
        config = Config.fromfile(args.config)
        if args.cfg_options:
            config.merge_from_dict(args.cfg_options)
        task = args.task or task_of(config)
        if task not in ('embed', task_of(config)):
            raise ValueError(f'--task {task}: {args.config} is for '
                             f'{task_of(config)}')
        run = dict(reconstruct=reconstruct, embed=embed).get(task, predict)
        unreadable = run(args, config, files)
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(f'written: {args.out} ({len(files) - len(unreadable)} images)')
    for line in unreadable:
        print(f'skipped: {line}', file=sys.stderr)


if __name__ == '__main__':
    main()
