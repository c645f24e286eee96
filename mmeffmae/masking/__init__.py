# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .complementary import ComplementaryMasking
from .neighbours import visible_neighbours
from .parallel import ParallelMasking
from .plan import (
    MaskPlan,
    gather_table,
    gather_tokens,
    gather_views,
    replace_tokens,
    scatter_tokens,
)
from .random import RandomMasking
from .uniform import UniformMasking
from .whole import WholeImageMasking

__all__ = [
    'ComplementaryMasking', 'MaskPlan', 'ParallelMasking', 'RandomMasking',
    'UniformMasking', 'WholeImageMasking', 'gather_table', 'gather_tokens',
    'gather_views', 'replace_tokens', 'scatter_tokens', 'visible_neighbours'
]
