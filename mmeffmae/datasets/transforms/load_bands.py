# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Loading of images that are not 8-bit colour photographs."""
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Union

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmeffmae.registry import TRANSFORMS

from .load_image import BROKEN, UnreadableImage, check_whole


def read_bands(path: Union[str, PathLike]) -> np.ndarray:
    """Read an image with all its bands and the values it has.

    ``.npy`` files hold ``(H, W)`` or ``(H, W, C)``. TIFF files are read by the
    package tifffile where it is installed: any number of bands, stored pixel
    by pixel or band by band. Everything else is read by OpenCV: up to four
    bands, alpha included, of 8 or 16 bits.

    Args:
        path: Local file.

    Returns:
        ``(H, W, C)`` of the file's type; three bands are BGR, as the stack's
        loader gives them, any other number is in the order of the file.

    Raises:
        UnreadableImage: The file is missing, damaged, or no such image.
    """
    path = Path(path)
    try:
        array = _decode(path, path.read_bytes())
    except (*BROKEN, EOFError) as error:
        raise UnreadableImage(f'{path}: {error}') from error
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3:
        raise UnreadableImage(
            f'{path}: {array.ndim} dimensions {array.shape}, not rows, columns and '
            'bands')
    if array.dtype.kind == 'f' and not np.isfinite(array).all():
        raise UnreadableImage(f'{path}: values that are not finite')
    return array


def _decode(path: Path, data: bytes) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix == '.npy':
        return np.load(BytesIO(data), allow_pickle=False)
    if suffix in ('.tif', '.tiff') and (array := _tiff(data)) is not None:
        return array[..., ::-1] if array.shape[2:] == (3,) else array
    check_whole(data)
    array = cv2.imdecode(np.frombuffer(data, 'u1'), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise OSError('cannot be decoded')
    if array.shape[2:] == (4,):  # in the order of the file, as of five bands
        array = array[..., [2, 1, 0, 3]]
    return array


def _tiff(data: bytes) -> np.ndarray | None:
    """Bands last; None without the package tifffile."""
    try:
        from tifffile import TiffFile, TiffFileError
    except ImportError:
        return None
    try:
        with TiffFile(BytesIO(data)) as file:
            series = file.series[0]
            array, axes = series.asarray(), series.axes
    except (TiffFileError, IndexError, KeyError) as error:
        raise OSError(str(error)) from error
    if array.ndim == 3 and axes.endswith('YX'):
        array = np.moveaxis(array, 0, -1)
    return array


@TRANSFORMS.register_module()
class LoadBands(BaseTransform):
    """:func:`read_bands` in a pipeline.

    Required Keys: img_path

    Modified Keys: img ``(H, W, C)`` float32, img_shape and ori_shape ``(H, W)``.

    Args:
        bands: Number of bands that every image must have.

    Raises:
        UnreadableImage: The file cannot be read or has other bands.
    """

    def __init__(self, bands: int) -> None:
        self.bands = bands

    def transform(self, results: dict) -> dict:
        """Load ``results['img_path']``."""
        image = read_bands(results['img_path'])
        if image.shape[2] != self.bands:
            raise UnreadableImage(
                f'{results["img_path"]}: {image.shape[2]} bands, not {self.bands}')
        results['img'] = image.astype(np.float32)
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results
