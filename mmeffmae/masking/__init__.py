# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .complementary import ComplementaryMasking
from .parallel import ParallelMasking
from .plan import MaskPlan, gather_table, gather_views, replace_tokens, scatter_tokens
from .random import RandomMasking

__all__ = [
    'ComplementaryMasking', 'MaskPlan', 'ParallelMasking', 'RandomMasking',
    'gather_table', 'gather_views', 'replace_tokens', 'scatter_tokens'
]
