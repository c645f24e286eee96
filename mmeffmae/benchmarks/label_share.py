# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A part of a detector's or segmentor's labels, at an equal number of steps."""
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mmeffmae.datasets.unlabelled import find_images, read_list
from mmeffmae.evaluation.subsets import label_subset

_Item = TypeVar('_Item')


def write_share(loader: Mapping[str, Any], share: float, folder: Path) -> list[str]:
    """Write a share of the training labels, and say how to use it.

    The chosen images are repeated to the number of all, so that a schedule in
    epochs takes as many steps. The choice is the same every time, and of two
    shares the smaller is part of the larger.

    Args:
        loader: ``train_dataloader`` of a config whose dataset reads COCO's JSON,
            or a folder of images with maps beside it, as mmsegmentation's do.
        share: Above 0 and up to 1.
        folder: Where to write.

    Returns:
        Options for ``--cfg-options``; none for all of the labels.

    Raises:
        ValueError: The dataset is of another kind, or the share out of range.
        FileNotFoundError: The data are not there.
    """
    if share == 1:
        return []
    key, dataset = 'train_dataloader.dataset', loader['dataset']
    while 'dataset' in dataset:
        key, dataset = f'{key}.dataset', dataset['dataset']
    root = Path(dataset.get('data_root') or '')
    source = dataset.get('ann_file') or ''
    prefix = dataset.get('data_prefix') or {}
    if source.endswith('.json'):
        content = _coco_share(json.loads((root / source).read_text()), share)
        text, ending = json.dumps(content), 'json'
    elif 'seg_map_path' in prefix:
        names = _map_names(root, source, prefix['img_path'])
        text = ''.join(f'{name}\n' for name in _chosen(names, share))
        ending = 'txt'
    else:
        raise ValueError(
            f'a share of {dataset.get("type")} cannot be taken: its ann_file '
            f'{source!r} is no COCO JSON, and data_prefix {dict(prefix)} names no '
            'seg_map_path')
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = (folder / f'share_{100 * share:g}pct_{name}.{ending}').absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    return [f'{key}.ann_file={path}']


def _chosen(items: Sequence[_Item], share: float) -> list[_Item]:
    """The share, again and again up to the number of all."""
    chosen = [items[i] for i in label_subset([0] * len(items), share=share)]
    return (chosen * -(-len(items) // len(chosen)))[:len(items)]


def _map_names(root: Path, source: str, images: str) -> list[str]:
    if source:
        return read_list(str(root / source), 'write_share')
    found = find_images(str(root / images), 'write_share')
    return [str(Path(name).with_suffix('')) for name in found]


def _coco_share(content: dict[str, Any], share: float) -> dict[str, Any]:
    """Repeated images and their annotations get identities of their own."""
    images: list[dict] = []
    annotations: list[dict] = []
    of_image: dict[Any, list[dict]] = {}
    for annotation in content['annotations']:
        of_image.setdefault(annotation['image_id'], []).append(annotation)
    for image in _chosen(content['images'], share):
        number = len(images) + 1
        images.append(dict(image, id=number))
        for annotation in of_image.get(image['id'], []):
            annotations.append(
                dict(annotation, id=len(annotations) + 1, image_id=number))
    return dict(content, images=images, annotations=annotations)

