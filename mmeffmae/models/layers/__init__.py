# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .layout import TokenLayout
from .positions import resize_positions, sincos_positions
from .shared_attention import AttentionShell, attention_groups
from .stems import PatchifyStem

__all__ = [
    'AttentionShell', 'PatchifyStem', 'TokenLayout', 'attention_groups',
    'resize_positions', 'sincos_positions'
]
