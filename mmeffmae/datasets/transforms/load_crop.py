# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Decoding of no more pixels than are needed."""
import struct
from io import BytesIO
from typing import Any

import cv2
import mmcv
import mmengine.fileio as fileio
import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.datasets.transforms import RandomResizedCrop
from PIL import Image

from mmeffmae.registry import TRANSFORMS

from .load_image import decode, refusing_broken

_ORIENTATION = 0x0112  # EXIF
#: Markers of the segment that tells the size.
_FRAMES = {*range(0xc0, 0xd0)} - {0xc4, 0xc8, 0xcc}
_FLAGS = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2,
          4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG file as it is decoded, from its header.

    Returns:
        tuple[int, int] | None: None for other files, and where it cannot be
        told.
    """
    place = 2 if data.startswith(b'\xff\xd8\xff') else len(data)
    while place + 9 < len(data) and data[place] == 0xff:
        marker = data[place + 1]
        if marker == 0xe1 and data.startswith(b'Exif', place + 4):
            return _upright_size(data)
        if marker in _FRAMES:
            return struct.unpack_from('>HH', data, place + 5)
        place += 2 + struct.unpack_from('>H', data, place + 2)[0]
    return None


def _upright_size(data: bytes) -> tuple[int, int]:
    """The same of a file that may ask to be turned; ten times as slow."""
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
    of the two steps, with less aliasing and their borders rounded to pixels of
    the reduction; all others are the same to the bit.

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
        results['img'] = mmcv.imresize(
            _cut(image, box, size), tuple(self.scale[::-1]),
            interpolation=self.interpolation, backend=self.backend)
        results['img_shape'] = results['img'].shape[:2]
        results['ori_shape'] = size
        return results

    def _box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        # Only the shape is looked at; this array has no memory of its own.
        return self.rand_crop_params(np.broadcast_to(np.uint8(0), size))

    def _reduction(self, box: tuple[int, int, int, int]) -> int:
        spare = min(box[2] / self.scale[0], box[3] / self.scale[1])
        return max(r for r in _FLAGS if r == 1 or r <= min(spare, self.max_reduction))


@TRANSFORMS.register_module()
class LoadReduced(BaseTransform):
    """``LoadImage``, with larger images reduced to a longest side.

    A JPEG that is at least twice, four or eight times as large is decoded at a
    half, quarter or eighth of its size; areas are averaged for the rest of the way.

    Required Keys: img_path. Set Keys: img, img_shape, ori_shape.

    Args:
        side: Longest side, in pixels; smaller images stay.

    Raises:
        UnreadableImage: The file is missing, empty, no image, or truncated.
    """

    def __init__(self, side: int) -> None:
        self.side = side

    def transform(self, results: dict) -> dict:
        """Load ``results['img_path']``, reduced."""
        path = results['img_path']
        with refusing_broken(path):
            data = fileio.get(path)
            longest = max(jpeg_size(data) or (0, ))
            image = decode(data, _FLAGS[max(
                r for r in _FLAGS if r == 1 or r * self.side <= longest)])
        height, width = image.shape[:2]
        ratio = self.side / max(height, width)
        if ratio < 1:
            size = max(1, round(width * ratio)), max(1, round(height * ratio))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


def _cut(
    image: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]
) -> np.ndarray:
    """Cut a box, given for an image of ``size``, out of it or its reduction."""
    spans = []
    for axis in (0, 1):
        ratio = image.shape[axis] / size[axis]
        begin = min(round(box[axis] * ratio), image.shape[axis] - 1)
        spans.append(slice(begin, begin + max(1, round(box[axis + 2] * ratio))))
    return image[spans[0], spans[1]]
