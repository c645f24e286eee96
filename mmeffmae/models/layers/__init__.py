# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .compact import (
    UNIT,
    CompactLayout,
    assemble,
    expand_slots,
    gather_pixels,
    patch_tokens,
)
from .conv_ffn import ConvFFN
from .conv_stems import ConvStem
from .decorrelated import DecorrelatedConv2d, DecorrelatedLinear, project_fields
from .grids import check_depth, check_heads, divide_image
from .initialisation import INIT_CFG, init_convolution
from .layout import TokenLayout
from .positions import resize_bias_table, resize_positions, sincos_positions
from .reduced_attention import ReducedAttention
from .shared_attention import (
    AttentionShell,
    attention_groups,
    expand_attention,
    tie_attention,
)
from .stems import PatchifyStem
from .token_drop import TokenDrop, drop_placement, redundancy
from .window_attention import (
    RelativePositionMLP,
    WindowAttention,
    WindowLayout,
    compact_windows,
    image_windows,
)

__all__ = [
    'AttentionShell', 'CompactLayout', 'ConvFFN', 'ConvStem',
    'DecorrelatedConv2d', 'DecorrelatedLinear', 'INIT_CFG', 'PatchifyStem',
    'ReducedAttention', 'RelativePositionMLP', 'TokenDrop', 'TokenLayout',
    'UNIT', 'WindowAttention', 'WindowLayout', 'assemble', 'attention_groups',
    'check_depth', 'check_heads', 'compact_windows', 'divide_image',
    'drop_placement', 'expand_attention', 'expand_slots', 'gather_pixels',
    'image_windows', 'init_convolution', 'patch_tokens', 'project_fields',
    'redundancy', 'resize_bias_table', 'resize_positions', 'sincos_positions',
    'tie_attention'
]
