# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .bfloat16 import BFloat16OptimWrapper
from .grouped import GroupedOptimWrapperConstructor
from .layer_decay import LayerDecayOptimWrapperConstructor
from .muon import MuonAdamW

__all__ = [
    'BFloat16OptimWrapper', 'GroupedOptimWrapperConstructor',
    'LayerDecayOptimWrapperConstructor', 'MuonAdamW'
]
