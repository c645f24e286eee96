# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Decoding of no more pixels than a random crop needs."""
from io import BytesIO
from typing import Any

import cv2
import mmcv
import mmengine.fileio as fileio
import numpy as np
from mmpretrain.datasets.transforms import RandomResizedCrop
from PIL import Image

from mmeffmae.registry import TRANSFORMS

from .load_image import decode, refusing_broken

_ORIENTATION = 0x0112  # EXIF
_FLAGS = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2,
          4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
#: ``area`` is none of warpAffine's, and reduction has averaged already.
_INTERPOLATIONS = dict(
    nearest=cv2.INTER_NEAREST, bilinear=cv2.INTER_LINEAR, area=cv2.INTER_LINEAR,
    bicubic=cv2.INTER_CUBIC, lanczos=cv2.INTER_LANCZOS4)


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG file as it is decoded, from its header.

    Returns:
        tuple[int, int] | None: None for other files.
    """
    if not data.startswith(b'\xff\xd8\xff'):
        return None
    with Image.open(BytesIO(data)) as image:
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION, 1) >= 5
    return (width, height) if turned else (height, width)


@TRANSFORMS.register_module()
class LoadRandomResizedCrop(RandomResizedCrop):
    """``LoadImage`` and mmpretrain's ``RandomResizedCrop`` in one step.

    The crop is drawn first, from the file's header and by the same numbers.
    Where it has at least twice, four or eight times the pixels a side that
    are wanted, a JPEG is decoded at a half, quarter or eighth of its size,
    which the format gives almost for nothing. Such crops are close to those
    of the two steps, with less aliasing; all others are the same to the bit.

    Required Keys: img_path. Set Keys: img, img_shape, ori_shape.

    Args:
        scale: Height and width of the crops, in pixels, or both as one.
        max_reduction: 1 never reduces: every crop is the same to the bit.
        **kwargs: Of ``mmpretrain.RandomResizedCrop``.

    Raises:
        UnreadableImage: The file is missing, empty, no image, or truncated.
        ValueError: ``max_reduction`` is none of 1, 2, 4 and 8.
    """

    def __init__(self, scale: Any, max_reduction: int = 8, **kwargs: Any) -> None:
        super().__init__(scale, **kwargs)
        if max_reduction not in _FLAGS:
            raise ValueError(
                f'max_reduction {max_reduction} (LoadRandomResizedCrop): use one '
                f'of {", ".join(map(str, _FLAGS))}')
        self.max_reduction = max_reduction

    def transform(self, results: dict) -> dict:
        """Load ``results['img_path']``, cropped."""
        path = results['img_path']
        with refusing_broken(path):
            data = fileio.get(path)
            size = jpeg_size(data) if self.max_reduction > 1 else None
            if size is None:
                image = decode(data)
                size = image.shape[:2]
                box = self._box(size)
            else:
                box = self._box(size)
                image = decode(data, _FLAGS[self._reduction(box)])
        results['img'] = self._resized(image, box, size)
        results['img_shape'] = results['img'].shape[:2]
        results['ori_shape'] = size
        return results

    def _box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        # Only the shape is looked at; this array has no memory of its own.
        return self.rand_crop_params(np.broadcast_to(np.uint8(0), size))

    def _reduction(self, box: tuple[int, int, int, int]) -> int:
        spare = min(box[2] / self.scale[0], box[3] / self.scale[1])
        return max(r for r in _FLAGS if r == 1 or r <= min(spare, self.max_reduction))

    def _resized(
        self, image: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]
    ) -> np.ndarray:
        """The crop; ``image`` is one of ``size`` or its reduction."""
        top, left, height, width = box
        if image.shape[:2] == size:
            return mmcv.imresize(
                image[top:top + height, left:left + width],
                tuple(self.scale[::-1]), interpolation=self.interpolation,
                backend=self.backend)
        # The borders of the box lie between pixels of the reduction.
        rows, cols = (image.shape[i] / size[i] for i in (0, 1))
        step_y, step_x = height * rows / self.scale[0], width * cols / self.scale[1]
        to_source = np.array([
            [step_x, 0, left * cols + step_x / 2 - 0.5],
            [0, step_y, top * rows + step_y / 2 - 0.5],
        ])
        return cv2.warpAffine(
            image, to_source, tuple(self.scale[::-1]),
            flags=cv2.WARP_INVERSE_MAP | _INTERPOLATIONS[self.interpolation],
            borderMode=cv2.BORDER_REPLICATE)
