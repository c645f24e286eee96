# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Optional, Union

import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from torch import Tensor, nn

from mmeffmae.datasets.transforms.load_image import UnreadableImage
from mmeffmae.evaluation.features import evaluation_mode, pool_features

from .images import read_images

_CHUNK = 1024


def embed_images(
    model: nn.Module,
    files: Sequence[Path],
    size: Optional[tuple[int, int]] = None,
    batch_size: int = 32,
    load: Optional[BaseTransform] = None,
) -> tuple[Tensor, list[Path], list[str]]:
    """Pooled features of the backbone, as the frozen probes read them.

    Args:
        model: With ``backbone`` and ``data_preprocessor``.
        files: Image files.
        size: Rows and columns to scale and cut to. Defaults to the
            backbone's ``img_size``, or 224.
        batch_size: Images at a time.
        load: What reads a file, see :func:`.images.loader_of`.

    Returns:
        tuple: Features ``(N, C)``, float32, on the CPU; the N files; and a
        line for each file that cannot be read.

    Raises:
        ValueError: No file can be read.
    """
    if size is None:
        side = getattr(model.backbone, 'img_size', 224)
        size = tuple(side) if isinstance(side, Sequence) else (side, side)
    features, kept, unreadable = [], [], []

    def read(file: Path) -> Union[Tensor, str]:
        try:
            return read_images([file], size, load)[0]
        except UnreadableImage as error:
            return str(error)

    # Decoding releases the interpreter's lock.
    with evaluation_mode(model), ThreadPoolExecutor(
            len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(files), batch_size):
            images = []
            chunk = files[start:start + batch_size]
            for file, found in zip(chunk, pool.map(read, chunk)):
                if isinstance(found, str):
                    unreadable.append(found)
                else:
                    images.append(found)
                    kept.append(file)
            if images:
                # mmseg's iterates over the samples, mmpretrain's reads the first.
                segments = hasattr(model.data_preprocessor, 'test_cfg')
                batch = dict(inputs=torch.stack(images),
                             data_samples=[] if segments else None)
                inputs = model.data_preprocessor(batch, False)['inputs']
                features.append(pool_features(model.backbone(inputs)).cpu())
    if not features:
        raise ValueError(f'none of the {len(files)} images can be read, first '
                         f'{unreadable[0]}: give image files')
    return torch.cat(features), kept, unreadable


def directions(features: Tensor) -> Tensor:
    """Unit vectors whose products say how alike two images are.

    Features of a masked autoencoder share a large mean, which makes all
    cosines alike; it is taken away where there are images enough to know it.

    Args:
        features: ``(N, C)``.
    """
    if len(features) > 2:
        features = features - features.mean(0)
    return F.normalize(features.float(), dim=1)


def nearest_neighbours(features: Tensor, k: int = 5) -> tuple[Tensor, Tensor]:
    """The most similar other images of each image.

    Args:
        features: ``(N, C)``.
        k: Number of neighbours, at most N − 1.

    Returns:
        tuple: Indices ``(N, k)``, int64, and cosines of
        :func:`directions` ``(N, k)``, the nearest first.
    """
    vectors = directions(features)
    k = min(k, len(vectors) - 1)
    indices, cosines = [], []
    for start in range(0, len(vectors), _CHUNK):
        rows = vectors[start:start + _CHUNK] @ vectors.T
        own = torch.arange(len(rows))
        rows[own, start + own] = -2.
        cosine, index = rows.topk(k, dim=1)
        indices.append(index)
        cosines.append(cosine)
    return torch.cat(indices), torch.cat(cosines)


def near_duplicates(features: Tensor, threshold: float = 0.98) -> list[tuple]:
    """Pairs of images that are nearly the same.

    Args:
        features: ``(N, C)``.
        threshold: Smallest cosine of :func:`directions`.

    Returns:
        list[tuple]: ``(i, j, cosine)`` with i < j, the most alike first.
    """
    vectors = directions(features)
    pairs = []
    for start in range(0, len(vectors), _CHUNK):
        rows = (vectors[start:start + _CHUNK] @ vectors.T).triu(start + 1)
        for i, j in (rows >= threshold).nonzero().tolist():
            pairs.append((start + i, j, float(rows[i, j])))
    return sorted(pairs, key=lambda pair: -pair[2])
