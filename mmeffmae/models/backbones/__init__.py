# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .masked_vit import MaskedViT
from .swin import SwinTransformer
from .um_pvt import UMPVT
from .um_swin import UMSwin
from .windowed_vit import WindowedViT

__all__ = [
    'MaskedViT', 'SwinTransformer', 'UMPVT', 'UMSwin', 'WindowedViT'
]
