# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The page about a run on a folder: what was found, chosen, and learned."""
import shlex
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from mmengine.config import Config

from mmeffmae.datasets.device_images import of_files
from mmeffmae.datasets.unlabelled import read_list
from mmeffmae.evaluation.building import build_model, load_weights
from mmeffmae.inference import (
    embed_images,
    loader_of,
    nearest_neighbours,
    read_images,
)
from mmeffmae.visualization import tile_pictures, to_uint8_rgb
from mmeffmae.visualization.report import (
    Run,
    as_png,
    backbone_use,
    build_report,
    html_image,
    html_table,
)

from .recipe import FROM_NOTHING, SIZES

#: Images among which neighbours are looked for, with and without a GPU.
_EMBEDDED = dict(cuda=1000, cpu=256)
#: Names of the images, a line each, in a work directory.
IMAGES = 'images.txt'
_QUERIES, _NEIGHBOURS, _TILE, _LISTED = 6, 5, 112, 40
_PLAIN = ('mask_rcnn/mask-rcnn_vit-base-p16_1xb4-accum4-amp-lsj640-1x_coco',
          'upernet/upernet_vit-base-p16_1xb4-accum4-amp-160k_ade20k-512x512')
#: Configs of a detector and a segmentor of each encoder, and the width and depth
#: that it needs there.
_DENSE = {
    **{name: (_PLAIN, *size) for size, name in SIZES.items()},
    **{name: ((f'mask_rcnn/mask-rcnn_um-{name}_8xb2-amp-1x_coco',
               f'upernet/upernet_um-{name}_8xb2-amp-160k_ade20k-512x512'), 0, 0)
       for name in ('swin-tiny', 'pvt-small')},
}


def folder_report(work_dir: Path, record: Mapping[str, Any], device: str) -> str:
    """The page as HTML.

    Args:
        work_dir: Of a finished run.
        record: What :mod:`mmeffmae.folder.session` wrote of its plan.
        device: Where features are computed.
    """
    run = Run(work_dir)
    name = f'{record["method"]} with {record["encoder"]} on {record["name"]}'
    picture = neighbours_picture(run, device)
    sections = [
        *_neighbours(picture), '<h2>The folder</h2>',
        html_table(map(tuple, record['survey'])),
        *_skipped(work_dir / 'skipped.txt'), '<h2>The plan</h2>',
        html_table((f'{choice["name"]}: {choice["value"]}', choice['reason'])
                   for choice in record['choices']),
        *(f'<p class="note">{escape(text)}</p>' for text in record['warnings'])]
    return build_report(
        run, name=name, sections=sections, next_steps=list(_next(run, record)))


def neighbours_picture(run: Run, device: str) -> Optional[np.ndarray]:
    """Rows of an image and the most similar others, nearest first.

    Returns:
        RGB ``(H, W, 3)`` uint8; None without a backbone or enough images.
    """
    dataset = of_files(run.config.train_dataloader.dataset)
    # Not where the config says: the folder may have been moved since.
    names = read_list(str(run.work_dir / IMAGES), 'neighbours_picture')
    count = min(len(names), _EMBEDDED.get(device, _EMBEDDED['cpu']))
    files = [Path(dataset['data_root']) / names[i * len(names) // count]
             for i in range(count)]
    if run.checkpoint is None or count <= _NEIGHBOURS:
        return None
    model = _model(run.config, run.checkpoint, device)
    load = loader_of(run.config)
    features, kept, _ = embed_images(model, files, load=load)
    indices, _ = nearest_neighbours(features, _NEIGHBOURS)
    queries = [i * len(kept) // _QUERIES for i in range(_QUERIES)]
    rows = [[query, *indices[query].tolist()] for query in queries]
    images = read_images(
        [kept[i] for row in rows for i in row], (_TILE, _TILE), load)
    batch = dict(inputs=images, data_samples=None)
    inputs = model.data_preprocessor(batch, False)['inputs']
    pictures = to_uint8_rgb(inputs, model.data_preprocessor)
    return tile_pictures(pictures.unflatten(0, (len(rows), -1)), 2)


def _model(config: Config, checkpoint: Path, device: str) -> torch.nn.Module:
    config = config.copy()
    config.model.backbone.init_cfg = None
    model = build_model(config, device=device)
    load_weights(model.backbone, checkpoint, 'backbone.')
    return model


def _neighbours(picture: Optional[np.ndarray]) -> Iterable[str]:
    if picture is None:
        return
    yield '<h2>Nearest neighbours</h2>'
    yield ('<p>Left, an image of the folder; right of it, the most similar others by '
           'the pooled features of the encoder. Rows that make sense to you are a good '
           'sign; features of a masked autoencoder are meant to be fine-tuned, so poor '
           'rows are no proof against them.</p>')
    yield html_image(as_png(picture), 'nearest neighbours')


def _skipped(path: Path) -> Iterable[str]:
    lines = path.read_text(encoding='utf-8').splitlines() if path.is_file() else []
    if not lines:
        return
    yield f'<p>Skipped, all in <code>{escape(str(path))}</code>:</p>'
    parts = (line.partition('\t') for line in lines[:_LISTED])
    yield html_table((name, reason) for name, _, reason in parts)


def _next(run: Run, record: Mapping[str, Any]) -> Iterable[str]:
    config = _quoted(run.work_dir / 'config.py')
    # Encoders without a stock equivalent load the checkpoint as it is.
    weights = _quoted(run.backbone or run.checkpoint)
    init = record['asked']['init']
    files = (f'--continued {weights} --public {_quoted(init)}' if init else
             f'--scratch {weights} --public FILE')
    if run.backbone:
        yield backbone_use(run)
        yield from _dense(run, record['encoder'])
    yield ('<p>Does it help? Compare the same classifier from it, from untrained and '
           'from public weights; a folder of one sub-folder a class is enough:</p>'
           + _command(
               f'python tools/compare_inits.py {config} {files}',
               '--labelled TRAIN VAL --shares 0.1 1 --seeds 0 1 2'))
    yield ('<p>Features, neighbours and near-duplicates of any folder:</p>' + _command(
        f'python tools/predict.py {config} {_quoted(run.checkpoint)} FOLDER '
        '--task embed'))
    start = f'--method {record["method"]} --encoder {record["encoder"]}'
    if record['method'] in FROM_NOTHING:
        text = 'Train longer: give another work directory, and more minutes:'
    else:
        text = ('Train longer: give another work directory, and more minutes or the '
                'weights of this run:')
        start += f' --init {weights}'
    if record['asked'].get('progressive'):
        start += ' --progressive'
    if images := record['asked'].get('images'):
        start += f' --images {images}'
    yield f'<p>{text}</p>' + _command(
        f'python tools/pretrain_folder.py {_quoted(record["folder"])}',
        f'{start} --minutes M --work-dir NEW')
    yield ('<p>The run again, by hand:</p>' + _command(
        f'python tools/train.py {config} --work-dir NEW'))


def _dense(run: Run, encoder: str) -> Iterable[str]:
    """How detector and segmentor start from the backbone, if there are configs."""
    backbone = run.config.model.backbone
    names, width, depth = _DENSE.get(encoder, ((), 0, 0))
    if not names or not isinstance(backbone.arch, str) or (
            backbone.patch_size, backbone.in_channels) != (16, 3):
        return
    common = [f'model.backbone.img_size={backbone.img_size}']
    if width:
        common.append(f'model.backbone.arch={backbone.arch}')
    if scale := backbone.get('layer_scale_init_value'):
        common.append(f'model.backbone.layer_scale_init_value={scale}')
    maps = [depth // 3 - 1, depth // 2 - 1, 2 * depth // 3 - 1, depth - 1]
    sizes = ([f'model.neck.in_channels={width}'],
             [f'model.backbone.out_indices={maps}',
              f'model.neck.embed_dim={width}',
              f'model.decode_head.in_channels={[width] * 4}',
              f'model.auxiliary_head.in_channels={width}'])
    yield ('<p>A detector and a segmentor from it; what they take of memory, and how '
           'they read your own labels, is said in <code>README.md</code> of '
           '<code>configs/mask_rcnn</code> and <code>configs/upernet</code>:</p>')
    for name, size in zip(names, sizes):
        options = [*common, *(size if width else [])]
        yield _command(
            f'python tools/train.py configs/{name}.py',
            # Not as an option, which would lose the blanks of a path.
            f'--init {_quoted(run.backbone)}',
            f'--cfg-options {" ".join(_quoted(o.replace(" ", "")) for o in options)}')


def _quoted(word: object) -> str:
    """As a shell takes it for one word."""
    return shlex.quote(str(word))


def _command(*lines: str) -> str:
    return '<pre>' + escape(' \\\n    '.join(lines)) + '</pre>'
