# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Optional, Union

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from PIL import Image, ImageOps
from torch import Tensor

from mmeffmae.datasets.device_images import of_files
from mmeffmae.datasets.transforms import LoadImage
from mmeffmae.datasets.unlabelled import EXTENSIONS, find_images
from mmeffmae.registry import TRANSFORMS


def list_images(path: Union[str, PathLike]) -> list[Path]:
    """The file itself, or all images below a folder, sorted.

    Raises:
        FileNotFoundError: There is no such file or folder, or no image in it.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return [place]
    endings = (*EXTENSIONS, '.npy')  # what LoadBands reads
    return [place / name for name in find_images(str(place), 'list_images', endings)]


def loader_settings(config: Config) -> dict[str, Any]:
    """Settings of what reads whole images of a pre-training.

    Photographs, or other bands; its own loader may cut crops by chance.
    """
    loader = config.get('train_dataloader') or {}
    for step in of_files(loader.get('dataset') or {}).get('pipeline') or []:
        if step['type'].split('.')[-1] == 'LoadBands':
            return dict(type='mmeffmae.LoadBands', bands=step['bands'])
    return dict(type='mmeffmae.LoadImage')


def loader_of(config: Config) -> BaseTransform:
    """What reads whole images of a pre-training, see :func:`loader_settings`."""
    return TRANSFORMS.build(loader_settings(config))


def read_images(
    files: Sequence[Union[str, PathLike]],
    size: tuple[int, int],
    load: Optional[BaseTransform] = None,
) -> Tensor:
    """Read images, scale each to cover a size and cut its centre.

    Args:
        files: Image files.
        size: Rows and columns.
        load: What reads a file, see :func:`loader_of`; photographs by default.

    Returns:
        ``(B, 3, H, W)``, uint8, BGR as the stack's loader gives it; of
        ``LoadBands`` ``(B, C, H, W)``, float32.

    Raises:
        UnreadableImage: A file is missing, damaged or no image.
    """
    load = load or LoadImage()
    images = []
    for file in files:
        pixels = load.transform(dict(img_path=str(file)))['img']
        if pixels.dtype == np.uint8:
            fitted = np.array(ImageOps.fit(
                Image.fromarray(pixels), size[::-1], Image.Resampling.BICUBIC))
        else:
            fitted = _fit(pixels, size)
        images.append(torch.from_numpy(fitted).permute(2, 0, 1))
    return torch.stack(images)


def _fit(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``ImageOps.fit`` for any type and number of bands."""
    rows, columns, bands = pixels.shape
    scale = max(size[0] / rows, size[1] / columns)
    height, width = (max(wanted, round(scale * length)) for wanted, length
                     in zip(size, (rows, columns)))
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    # Of OpenCV's kinds that take more than four bands the smoothest.
    scaled = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LANCZOS4)
    scaled = scaled.reshape(height, width, bands)  # a single band has none
    return scaled[top:top + size[0], left:left + size[1]].copy()
