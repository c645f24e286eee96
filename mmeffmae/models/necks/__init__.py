# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .global_attention import GlobalAttention
from .masked_decoder import MaskedDecoder
from .pixel_shuffle_decoder import PixelShuffleDecoder
from .simmim_decoder import SimMIMDecoder
from .simple_feature_pyramid import SimpleFeaturePyramid

__all__ = [
    'GlobalAttention', 'MaskedDecoder', 'PixelShuffleDecoder', 'SimMIMDecoder',
    'SimpleFeaturePyramid'
]
