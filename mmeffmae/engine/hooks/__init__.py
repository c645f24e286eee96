# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .knn_monitor import KNNMonitorHook
from .reconstruction import ReconstructionHook

__all__ = [
    'KNNMonitorHook',
    'ReconstructionHook',
]
