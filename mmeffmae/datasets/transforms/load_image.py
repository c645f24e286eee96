# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Image loading that refuses files which are broken or cut short."""
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import cv2
import mmcv
import mmengine.fileio as fileio
import numpy as np
from mmcv.transforms import LoadImageFromFile
from PIL import Image, UnidentifiedImageError

from mmeffmae.registry import TRANSFORMS

#: First bytes of a format and the mark that ends its files.
_ENDS = ((b'\xff\xd8\xff', b'\xff\xd9'), (b'\x89PNG', b'IEND'))
#: What Pillow and OpenCV raise on damaged files; a damaged header may claim
#: any size.
BROKEN = (OSError, SyntaxError, ValueError, struct.error, cv2.error,
           Image.DecompressionBombError)


class UnreadableImage(RuntimeError):
    """An image file that cannot be read in full; says ``path: reason``."""


@contextmanager
def refusing_broken(path: str) -> Iterator[None]:
    """Turn what damaged files raise into :class:`UnreadableImage`."""
    try:
        yield
    except BROKEN as error:
        raise UnreadableImage(f'{path}: {error}') from error


def decode(data: bytes, flag: str | int = 'color',
           backend: str | None = 'cv2') -> np.ndarray:
    """Pixels of a whole image file, ``(H, W, 3)`` uint8 BGR for a colour flag.

    Args:
        data: The file.
        flag: Of :func:`mmcv.imfrombytes`, or one of OpenCV's.
        backend: Of :func:`mmcv.imfrombytes`.

    Raises:
        OSError: The file is broken; as others of its kind, see
            :func:`refusing_broken`.
    """
    check_whole(data)
    image = mmcv.imfrombytes(data, flag=flag, backend=backend)
    if image is None:
        raise OSError('cannot be decoded')
    return image


def check_whole(data: bytes) -> None:
    """Raise OSError or SyntaxError if ``data`` is an incomplete image file.

    OpenCV may fill what a truncated file lacks with grey. A look at the end mark
    settles nearly every file; only the others are decoded by Pillow, which is
    strict. (Entropy-coded JPEG data cannot contain the mark.)
    """
    for start, end in _ENDS:
        if data.startswith(start) and end in data[-1024:]:
            return
    try:
        with Image.open(BytesIO(data)) as image:
            image.load()
    except UnidentifiedImageError:
        raise OSError('not an image' if data else 'empty file') from None


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that raises on every unreadable file.

    Takes the same arguments and sets the same keys: ``img`` ``(H, W, 3)``
    uint8 BGR, ``img_shape`` and ``ori_shape`` ``(H, W)``.

    Raises:
        UnreadableImage: The file is missing, empty, no image, or truncated.
    """

    def transform(self, results: dict) -> dict:
        """Load ``results['img_path']``."""
        path = results['img_path']
        with refusing_broken(path):
            data = fileio.get(path, backend_args=self.backend_args)
            image = decode(data, self.color_type, self.imdecode_backend)
        results['img'] = image.astype('float32') if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results
