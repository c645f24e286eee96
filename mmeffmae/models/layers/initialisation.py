# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Initialisation that several parts share."""
from torch import nn

#: MAE's initialisation of the layers; parts add their own on top.
INIT_CFG = [
    dict(type='Xavier', layer='Linear', distribution='uniform'),
    dict(type='Constant', layer='LayerNorm', val=1., bias=0.),
]


def init_convolution(layer: nn.Module) -> None:
    """``N(0, 2 / fan_out)`` and no bias: of convolutions, and of linear maps
    that UM-MAE's official code writes as 1 × 1 convolutions.
    """
    fan_out = layer.weight.size(0) * layer.weight[0, 0].numel()
    nn.init.normal_(layer.weight, std=(2 / fan_out)**.5)
    nn.init.zeros_(layer.bias)
