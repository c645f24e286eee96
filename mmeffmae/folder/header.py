# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What the first bytes of an image file say, without decoding it."""
import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import SAMPLESPERPIXEL

from mmeffmae.datasets.transforms.load_image import BROKEN, UnreadableImage

#: Bands of Pillow's modes; palettes, CMYK and grey with alpha are read as three.
_BANDS = {'1': 1, 'L': 1, 'I': 1, 'F': 1}
_PNG = b'\x89PNG\r\n\x1a\n'


@dataclass(frozen=True)
class Header:
    """Size and kind of an image.

    Attributes:
        width: In pixels.
        height: In pixels.
        bands: 1 for grey, 3 for colour, else as many as there are.
        kind: Type of the values, as numpy names it: ``'uint8'``, ``'uint16'``.
        notes: What reading it as a photograph of 8 bits changes.
        stored: Bands that lie in the file, where that is another number.
    """
    width: int
    height: int
    bands: int
    kind: str = 'uint8'
    notes: tuple[str, ...] = ()
    stored: int = 0

    @property
    def photograph(self) -> bool:
        """Whether the stack's loader reads it without loss."""
        return self.kind == 'uint8' and self.bands in (1, 3)

    def with_bands(self, bands: int) -> 'Header':
        """The same with all bands of the file, if they are as many."""
        if self.stored != bands:
            return self
        return replace(self, bands=bands, notes=())


def read_header(path: Path) -> Header:
    """Read the header of an image file.

    Raises:
        UnreadableImage: The file is empty, missing or no image.
    """
    try:
        if path.stat().st_size == 0:
            raise OSError('empty file')
        if path.suffix.lower() == '.npy':
            return _of_array(np.load(path, mmap_mode='r', allow_pickle=False))
        return _of_pillow(path)
    except UnidentifiedImageError:
        return _of_tiff(path)
    except (*BROKEN, EOFError) as error:
        raise UnreadableImage(f'{path}: {error}') from error


def _of_array(array: np.ndarray) -> Header:
    if array.ndim not in (2, 3):
        raise ValueError(f'{array.ndim} dimensions, not rows, columns and bands')
    bands = array.shape[2] if array.ndim == 3 else 1
    return Header(array.shape[1], array.shape[0], bands, str(array.dtype))


def _of_pillow(path: Path) -> Header:
    with warnings.catch_warnings():
        # The survey has its own limit, and says so.
        warnings.simplefilter('ignore', Image.DecompressionBombWarning)
        with Image.open(path) as image:
            mode, form, (width, height) = image.mode, image.format, image.size
            animated = getattr(image, 'is_animated', False)
            deep = _is_deep_png(path) if form == 'PNG' else False
            samples = image.tag_v2.get(SAMPLESPERPIXEL, 1) if form == 'TIFF' else 0
            if form == 'TIFF' and (mode[:1] in 'IF' or animated or samples > 4):
                return _of_tiff(path)
    notes = []
    # Pillow calls a fourth band of unknown meaning nothing at all.
    stored = 4 if samples == 4 or mode == 'RGBA' else 0
    if mode == 'P':
        notes.append('palette, read as colour')
    elif mode in ('CMYK', 'YCCK'):
        notes.append('CMYK, read as RGB')
    elif stored and form == 'TIFF':
        notes.append('fourth band of a TIFF, dropped (--channels 4 reads it)')
    elif mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa'):
        notes.append('alpha channel, dropped')
    if animated:
        notes.append('animated, the first frame is read')
    kind = 'uint16' if deep or mode.startswith('I') else 'uint8'
    bands = _BANDS.get(mode, 1 if mode.startswith('I;16') else 3)
    return Header(width, height, bands, kind, tuple(notes), stored)


def _is_deep_png(path: Path) -> bool:
    """Whether a PNG has 16 bits; Pillow's mode does not say it of colour."""
    with path.open('rb') as file:
        head = file.read(26)
    return head.startswith(_PNG) and struct.unpack('>B', head[24:25])[0] == 16


def _of_tiff(path: Path) -> Header:
    """Of the kinds that Pillow cannot open: many bands, 16 bits, floats."""
    if path.suffix.lower() not in ('.tif', '.tiff'):
        raise UnreadableImage(f'{path}: not an image')
    try:
        from tifffile import TiffFile, TiffFileError
    except ImportError:
        raise UnreadableImage(
            f'{path}: a TIFF of this kind needs the package tifffile (pip install '
            '"mmeffmae[bands]")') from None
    try:
        with TiffFile(path) as file:
            series = file.series[0]
            shape, axes, kind = series.shape, series.axes, str(series.dtype)
    except (TiffFileError, IndexError, *BROKEN) as error:
        raise UnreadableImage(f'{path}: {error}') from error
    if len(shape) not in (2, 3):
        raise UnreadableImage(
            f'{path}: {len(shape)} dimensions {shape}, not rows, columns and bands')
    if len(shape) == 3 and axes.endswith('YX'):
        shape = (*shape[1:], shape[0])
    return Header(shape[1], shape[0], shape[2] if len(shape) == 3 else 1, kind)
