# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .masked_vit import MaskedViT

__all__ = ['MaskedViT']
