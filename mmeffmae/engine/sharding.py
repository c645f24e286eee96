# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What FSDP gathers at once."""
from mmcv.cnn.bricks.transformer import FFN
from mmpretrain.models.utils.attention import MultiheadAttention
from torch import nn

from mmeffmae.registry import FUNCTIONS


@FUNCTIONS.register_module()
def wrap_attention_and_ffn(
    module: nn.Module, recurse: bool, nonwrapped_numel: int
) -> bool:
    """Shard every attention and every FFN as a unit of its own.

    Not whole layers: ``MaskedViT`` and ``MaskedDecoder`` call a layer's parts,
    and FSDP gathers the weights of what is called. Shared attention and other
    FFNs stay in the outermost unit, which is gathered for the whole step.

    Args:
        module: A part of the model.
        recurse: Whether it is asked if to look at the module's parts.
        nonwrapped_numel: Weights in it that no unit has yet.
    """
    return recurse or isinstance(module, (MultiheadAttention, FFN))
