# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from torch import Tensor, nn
from torch.nn import functional as F


class ReducedAttention(nn.Module):
    """Attention to a map that is reduced in space (PVT, arXiv 2102.12122,
    §3.2), in UM-MAE's form: the mean of ratio × ratio tokens, a linear map
    and a norm, whatever the ratio, so that one set of weights serves all.

    Args:
        embed_dims (int): Channels.
        num_heads (int): Heads.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(embed_dims, embed_dims)
        self.kv = nn.Linear(embed_dims, 2 * embed_dims)
        self.sr = nn.Linear(embed_dims, embed_dims)
        self.norm = nn.LayerNorm(embed_dims, eps=1e-5)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, ratio: int) -> Tensor:
        """``(R, H, W, C)`` to the same.

        Args:
            x (Tensor): The map.
            ratio (int): Tokens on each side of what becomes one key; at the
                lower and right border there may be fewer.
        """
        reduced = x
        if ratio > 1:
            reduced = F.avg_pool2d(
                x.permute(0, 3, 1, 2), ratio, ceil_mode=True,
                count_include_pad=False).permute(0, 2, 3, 1)
        reduced = self.norm(self.sr(reduced.flatten(1, 2)))
        query = self.q(x.flatten(1, 2)).unflatten(-1, (self.num_heads, -1))
        keys = self.kv(reduced).unflatten(-1, (2, self.num_heads, -1))
        key, value = keys.permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(query.transpose(1, 2), key, value)
        return self.proj(out.transpose(1, 2).flatten(2)).view_as(x)
