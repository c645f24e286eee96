# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from mmpretrain.models.utils.attention import MultiheadAttention
from torch import Tensor, nn


class AttentionShell(nn.Module):
    """What stays private to a layer when its attention is shared.

    Stochastic depth and layer scale have one setting a layer, so only the
    projections of an attention are shared (CLMAE, ICASSP 2023; the split is
    MiniViT's).

    Args:
        attn (MultiheadAttention): The layer's own attention; its ``out_drop``
            and ``gamma1`` are taken over.
    """

    def __init__(self, attn: MultiheadAttention) -> None:
        super().__init__()
        self.out_drop = attn.out_drop
        self.gamma1 = attn.gamma1

    def forward(self, x: Tensor, core: nn.Module) -> Tensor:
        """``(R, L, C)`` through the shared ``core``, then the private part."""
        return self.out_drop(self.gamma1(core(x)))


def attention_groups(num_layers: int, num_groups: int) -> list[int]:
    """Group of every layer: consecutive layers share (ALBERT's rule).

    Raises:
        ValueError: If there are not 1 to ``num_layers`` groups.
    """
    if not 1 <= num_groups <= num_layers:
        raise ValueError(
            f'share_attn {num_groups} (MaskedViT): the {num_layers} layers '
            f'can share attention in 1 to {num_layers} groups')
    return [layer * num_groups // num_layers for layer in range(num_layers)]
