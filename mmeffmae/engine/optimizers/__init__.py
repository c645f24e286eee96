# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .bfloat16 import BFloat16OptimWrapper

__all__ = ['BFloat16OptimWrapper']
