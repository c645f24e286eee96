# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .keyed_index import KeyedIndex
from .keyed_sampler import InfiniteKeyedSampler, KeyedSampler

__all__ = ['InfiniteKeyedSampler', 'KeyedIndex', 'KeyedSampler']
