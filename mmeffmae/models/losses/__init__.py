# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .self_consistency import SelfConsistencyLoss

__all__ = ['SelfConsistencyLoss']
