# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .load_bands import LoadBands, read_bands
from .load_crop import LoadRandomResizedCrop, LoadReduced
from .load_image import LoadImage, UnreadableImage
from .seed_sample import SeedSample
from .uniform_mask import UniformMaskGenerator

__all__ = [
    'LoadBands', 'LoadImage', 'LoadRandomResizedCrop', 'LoadReduced', 'SeedSample',
    'UniformMaskGenerator', 'UnreadableImage', 'read_bands'
]
