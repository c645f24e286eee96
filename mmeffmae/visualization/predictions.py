# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Pictures of detections and segmentations beside their ground truth."""
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from PIL import Image, ImageOps


def draw_prediction(visualizer: Visualizer, sample: BaseDataElement,
                    **options: Any) -> np.ndarray:
    """Draw one image: ground truth to the left, prediction to the right.

    Args:
        visualizer: mmdet's or mmseg's, with ``dataset_meta`` set, or
            mmpretrain's, which writes into one picture.
        sample: With ``img_path``, predictions, and ground truth if there is
            any, in the pixels of that file.
        **options: Of the visualizer's ``add_datasample`` or
            ``visualize_cls``.

    Returns:
        An RGB picture ``(H, W, 3)``, uint8.
    """
    with Image.open(sample.img_path) as file:
        # Turned as the stack's loader turns it.
        image = np.asarray(ImageOps.exif_transpose(file).convert('RGB'))
    with TemporaryDirectory() as folder:
        drawn = Path(folder, 'drawn.png')
        if hasattr(visualizer, 'visualize_cls'):
            visualizer.visualize_cls(image, sample, out_file=str(drawn), **options)
        else:
            visualizer.add_datasample(
                drawn.stem, image, sample, out_file=str(drawn), **options)
        return np.asarray(Image.open(drawn).convert('RGB'))


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
