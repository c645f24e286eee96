# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Pictures of detections and segmentations beside their ground truth."""
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from PIL import Image


def draw_prediction(visualizer: Visualizer, sample: BaseDataElement,
                    **options: Any) -> np.ndarray:
    """Draw one image: ground truth to the left, prediction to the right.

    Args:
        visualizer: mmdet's or mmseg's, with ``dataset_meta`` set.
        sample: With ``img_path``, predictions, and ground truth if there is
            any, in the pixels of that file.
        **options: Of the visualizer's ``add_datasample``.

    Returns:
        An RGB picture ``(H, W, 3)``, uint8.
    """
    image = np.asarray(Image.open(sample.img_path).convert('RGB'))
    with TemporaryDirectory() as folder:
        file = Path(folder, 'drawn.png')
        visualizer.add_datasample(
            file.stem, image, sample, out_file=str(file), **options)
        return np.asarray(Image.open(file).convert('RGB'))


def stack_pictures(pictures: Sequence[np.ndarray],
                   margin: int = 2) -> np.ndarray:
    """Pictures below each other on white, each at its own size.

    Args:
        pictures: RGB, ``(H, W, 3)`` uint8.
        margin: Pixels between two of them.

    Returns:
        ``(H, W, 3)`` uint8, as wide as the widest.
    """
    height = sum(len(picture) + margin for picture in pictures) - margin
    width = max(picture.shape[1] for picture in pictures)
    sheet = np.full((height, width, 3), 255, np.uint8)
    top = 0
    for picture in pictures:
        sheet[top:top + len(picture), :picture.shape[1]] = picture
        top += len(picture) + margin
    return sheet
