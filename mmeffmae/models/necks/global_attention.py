# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmeffmae.registry import MODELS


@MODELS.register_module()
class GlobalAttention(BaseModule):
    """HTC++'s extra global self-attention on the last feature map.

    Swin's detector appends one layer of it to the last stage (Liu et al.,
    https://arxiv.org/abs/2103.14030, appendix A2.2). A pre-norm transformer
    layer without positions, then a norm; all positions of the map are tokens.

    Args:
        embed_dims (int): Channels of the last map.
        num_heads (int): Heads, a divisor of ``embed_dims``.
        feedforward_channels (int, optional): Width of the feed-forward part.
            Defaults to four times ``embed_dims``.
        drop_path_rate (float): Stochastic depth of the layer.
        with_cp (bool): Recompute activations in the backward pass.
        init_cfg (dict, optional): Of mmengine.

    Raises:
        ValueError: If the heads do not divide the channels.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int = 8,
        feedforward_channels: int | None = None,
        drop_path_rate: float = 0.,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if embed_dims % num_heads:
            raise ValueError(
                f'num_heads {num_heads} does not divide embed_dims {embed_dims} '
                '(GlobalAttention): take heads of 32 or 64 channels')
        self.layer = TransformerEncoderLayer(
            embed_dims,
            num_heads,
            feedforward_channels or 4 * embed_dims,
            drop_path_rate=drop_path_rate)
        self.norm = build_norm_layer(dict(type='LN'), embed_dims)[1]
        self.with_cp = with_cp

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Rewrite the last map.

        Args:
            inputs (Sequence[Tensor]): Maps ``(B, C_i, H_i, W_i)``.

        Returns:
            tuple[Tensor]: A new tuple of maps of the same shapes.
        """
        *others, last = inputs
        tokens = last.flatten(2).transpose(1, 2)
        if self.with_cp and tokens.requires_grad:
            tokens = checkpoint(self.layer, tokens, use_reentrant=False)
        else:
            tokens = self.layer(tokens)
        tokens = self.norm(tokens).transpose(1, 2)
        return (*others, tokens.reshape(last.shape))
