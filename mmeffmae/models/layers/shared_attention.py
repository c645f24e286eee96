# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Mapping, Sequence

import torch
from mmpretrain.models.utils.attention import MultiheadAttention
from torch import Tensor, nn

from mmeffmae.checkpoint.loading import CheckpointError


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


def expand_attention(
    tensors: Mapping[str, Tensor], num_layers: int, prefix: str = ''
) -> dict[str, Tensor]:
    """Weights with shared attention under the names of private ones.

    Args:
        tensors: ``{prefix}shared_attn.{group}.*`` and others.
        num_layers: Layers of the encoder.
        prefix: Where the encoder is.

    Returns:
        dict: ``{prefix}layers.{layer}.attn.*`` and the others; without shared
        attention all tensors as they are.
    """
    start = f'{prefix}shared_attn.'
    expanded = {k: v for k, v in tensors.items() if not k.startswith(start)}
    shared = {k[len(start):]: v for k, v in tensors.items() if k.startswith(start)}
    if not shared:
        return expanded
    num_groups = 1 + max(int(key.split('.')[0]) for key in shared)
    for layer, group in enumerate(attention_groups(num_layers, num_groups)):
        for key, value in shared.items():
            number, part = key.split('.', 1)
            if int(number) == group:
                expanded[f'{prefix}layers.{layer}.attn.{part}'] = value
    return expanded


def tie_attention(
    tensors: Mapping[str, Tensor], groups: Sequence[int], prefix: str = ''
) -> dict[str, Tensor]:
    """Weights with equal private attention under the names of shared ones.

    Args:
        tensors: ``{prefix}layers.{layer}.attn.*`` and others.
        groups: Group of every layer.
        prefix: Where the encoder is.

    Returns:
        dict: ``{prefix}shared_attn.{group}.*`` and the others.

    Raises:
        CheckpointError: Layers of one group differ.
    """
    tied: dict[str, Tensor] = {}
    for key, value in tensors.items():
        words = key[len(prefix):].split('.', 3)
        if key.startswith(f'{prefix}layers.') and words[2:3] == ['attn'] \
                and words[3].startswith(('qkv.', 'proj.')):
            key = f'{prefix}shared_attn.{groups[int(words[1])]}.{words[3]}'
            if key in tied and not torch.equal(tied[key], value):
                raise CheckpointError(
                    f'layers.{words[1]}.attn.{words[3]} differs from that of the '
                    f'layers before it, with which it is to share {key} '
                    '(MaskedViT): load the file into an encoder without '
                    'share_attn')
        tied[key] = value
    return tied
