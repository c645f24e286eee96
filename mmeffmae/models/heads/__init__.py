# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .feature_head import FeatureHead
from .pixel_head import PixelHead

__all__ = ['FeatureHead', 'PixelHead']
