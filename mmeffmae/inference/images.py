# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Union

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mmeffmae.datasets.transforms import LoadImage
from mmeffmae.datasets.unlabelled import find_images


def list_images(path: Union[str, PathLike]) -> list[Path]:
    """The file itself, or all images below a folder, sorted.

    Raises:
        FileNotFoundError: There is no such file or folder, or no image in it.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return [place]
    return [place / name for name in find_images(str(place), 'list_images')]


def read_images(files: Sequence[Union[str, PathLike]], size: tuple[int, int]) -> Tensor:
    """Read images, scale each to cover a size and cut its centre.

    Args:
        files: Image files.
        size: Rows and columns.

    Returns:
        ``(B, 3, H, W)``, uint8, BGR as the stack's loader gives it.

    Raises:
        UnreadableImage: A file is missing, damaged or no image.
    """
    load = LoadImage()
    images = []
    for file in files:
        pixels = load.transform(dict(img_path=str(file)))['img']
        image = ImageOps.fit(
            Image.fromarray(pixels), size[::-1], Image.Resampling.BICUBIC)
        images.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    return torch.stack(images)
