# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .masked_decoder import MaskedDecoder

__all__ = ['MaskedDecoder']
