# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Callable
from typing import Optional

import torch
from mmpretrain.models.necks import MAEPretrainDecoder
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmeffmae.masking import MaskPlan, gather_table
from mmeffmae.registry import MODELS

from ..layers import check_depth, check_heads, resize_positions, sincos_positions


@MODELS.register_module()
class MaskedDecoder(MAEPretrainDecoder):
    """MAE's decoder without un-shuffling (arXiv 2111.06377, §3).

    Attention does not mind the order of tokens, so visible tokens are
    followed by one mask token, with its position, for every patch to
    predict, and the last P outputs are the predictions. Parameter names are
    mmpretrain's; its checkpoints load.

    Args:
        grid (tuple[int, int]): Rows and columns of the position table.
        embed_dim (int): Width of the encoder.
        patch_size (int): Side of a patch, in pixels.
        in_chans (int): Channels of the images.
        predict_feature_dim (int, optional): Width of a prediction. Defaults
            to the ``patch_size² · in_chans`` pixels of a patch.
        drop_path_rate (float): Stochastic depth, the same in all layers.
        with_cp (bool): Recompute activations in the backward pass. Defaults to
            False.
        **kwargs: ``decoder_embed_dim``, ``decoder_depth``,
            ``decoder_num_heads``, ``mlp_ratio``, ``norm_cfg`` and
            ``init_cfg`` of ``mmpretrain.models.MAEPretrainDecoder``.

    Raises:
        ValueError: The depth is not positive, or the heads do not divide the
            width.
    """

    def __init__(
        self,
        grid: tuple[int, int] = (14, 14),
        embed_dim: int = 768,
        patch_size: int = 16,
        in_chans: int = 3,
        predict_feature_dim: Optional[int] = None,
        drop_path_rate: float = 0.,
        with_cp: bool = False,
        **kwargs,
    ) -> None:
        kwargs.setdefault('norm_cfg', dict(type='LN', eps=1e-6))
        check_depth(kwargs.get('decoder_depth', 1), 'decoder_depth', 'MaskedDecoder')
        super().__init__(
            num_patches=grid[0] * grid[1],
            patch_size=patch_size,
            in_chans=in_chans,
            embed_dim=embed_dim,
            predict_feature_dim=predict_feature_dim,
            **kwargs)
        self.grid = grid[0], grid[1]
        self.with_cp = with_cp
        for block in self.decoder_blocks:
            check_heads(block.embed_dims, block.attn.num_heads, 'MaskedDecoder')
            block.attn.out_drop.drop_prob = drop_path_rate
            block.ffn.dropout_layer.drop_prob = drop_path_rate

    def init_weights(self) -> None:
        """Fill the position table and draw the mask token."""
        # Past MAEPretrainDecoder, whose own table must be square.
        super(MAEPretrainDecoder, self).init_weights()
        table = sincos_positions(
            self.grid, self.decoder_pos_embed.shape[-1], cls_token=True)
        self.decoder_pos_embed.data.copy_(table)
        nn.init.normal_(self.mask_token, std=.02)

    def embed_visible(self, tokens: Tensor, table: Tensor, plan: MaskPlan) -> Tensor:
        """The encoder's tokens in the decoder's width, with their positions.

        Args:
            tokens (Tensor): ``(B·K, [1 +] V, embed_dim)``.
            table (Tensor): ``(1, 1 + N, decoder_embed_dim)``, positions.
            plan (MaskPlan): K views of each image.

        Returns:
            Tensor: ``(B·K, [1 +] V, decoder_embed_dim)``.
        """
        positions = gather_table(table[0, 1:], plan.ids_keep)
        if tokens.size(1) > positions.size(1):
            first = table[:, :1].expand(positions.size(0), -1, -1)
            positions = torch.cat([first, positions], dim=1)
        return self.decoder_embed(tokens) + positions

    def forward(self, tokens: Tensor, plan: MaskPlan) -> Tensor:
        """Predict the patches of ``plan.ids_predict``.

        Args:
            tokens (Tensor): ``(B·K, [1 +] V, embed_dim)`` of the encoder.
            plan (MaskPlan): K views of each image.

        Returns:
            Tensor: ``(B·K, P, predict_feature_dim)``.
        """
        table = resize_positions(self.decoder_pos_embed, self.grid, plan.grid)
        masked = self.mask_token + gather_table(table[0, 1:], plan.ids_predict)
        x = self.embed_visible(tokens, table, plan)
        x = torch.cat([x, masked.to(x.dtype)], dim=1)
        for block in self.decoder_blocks[:-1]:
            x = self._run(block, x)
        x = self._run(self._last_block, x, plan.ids_predict.size(-1))
        return self.decoder_pred(self.decoder_norm(x))

    def _run(self, block: Callable[..., Tensor], x: Tensor, *args: int) -> Tensor:
        if self.with_cp and x.requires_grad:
            return checkpoint(block, x, *args, use_reentrant=False)
        return block(x, *args)

    def _last_block(self, x: Tensor, num_predicted: int) -> Tensor:
        # Nothing reads the visible tokens after the last attention.
        last = self.decoder_blocks[-1]
        x = x + last.attn(last.ln1(x))
        x = x[:, -num_predicted:]
        return last.ffn(last.ln2(x), identity=x)
