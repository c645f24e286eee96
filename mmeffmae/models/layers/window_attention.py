# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Window attention with a relative-position MLP (UM-MAE, arXiv 2205.10063).

On a compact map neighbours need not be neighbours in the image, and each
image has other distances: the bias of a pair of tokens follows from where
their patches lie in the image.
"""
from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .compact import UNIT, CompactLayout

#: What keeps tokens apart that a cyclic shift brought together.
_APART = -100.
Pair = tuple[int, int]


class RelativePositionMLP(nn.Module):
    """Attention bias of every head from an offset between two tokens.

    ``bias = fc2(relu(fc1(sign(δ) · ln(1 + |δ|))))``, δ in tokens, (rows,
    columns). It is computed in fp32 on the distinct offsets of a stage, of
    which there are at most 961 for windows of 16 tokens.

    Args:
        num_heads (int): Heads.
        hidden_dims (int): Width of the hidden layer.
    """

    def __init__(self, num_heads: int, hidden_dims: int = 32) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2, hidden_dims)
        self.fc2 = nn.Linear(hidden_dims, num_heads)

    def forward(self, offsets: Tensor) -> Tensor:
        """``(n, 2)`` float offsets to ``(n, num_heads)``, float32."""
        with torch.autocast('cuda' if offsets.is_cuda else 'cpu', enabled=False):
            offsets = offsets.sign() * offsets.abs().log1p()
            return self.fc2(F.relu(self.fc1(offsets)))


class WindowLayout(NamedTuple):
    """How the maps of a stage are cut into windows, and what lies between
    the tokens of a window.

    Tokens are grouped into blocks, of which the tokens have the same offsets
    in every image: a window is P blocks of T tokens. Without a plan a window
    is one block.

    Attributes:
        window (tuple[int, int]): Height and width of a window.
        shift (tuple[int, int]): Cyclic shift.
        padding (tuple[int, int]): Rows and columns added below and right.
        block (tuple[int, int]): Height and width of a block; T in product.
        offsets (Tensor): ``(n, 2)``, float: the distinct offsets.
        between (Tensor): ``(M, T, T)``, int64: for each of M offsets
            between blocks, the offset of every pair of their tokens.
        pairs (Tensor, optional): ``(R·W, P, P)``, int64: which of the M
            lies between the blocks of every window of every image; None if
            windows are one block.
        apart (Tensor, optional): ``(W, P·T, P·T)``, float: added to the
            logits of shifted windows.
    """

    window: Pair
    shift: Pair
    padding: Pair
    block: Pair
    offsets: Tensor
    between: Tensor
    pairs: Optional[Tensor] = None
    apart: Optional[Tensor] = None

    def bias(self, mlp: RelativePositionMLP, dtype: torch.dtype) -> Tensor:
        """Bias of every window: ``(R·W, heads, L, L)``, or ``(W or 1, ...)``
        if all images have the same.
        """
        table = mlp(self.offsets).to(dtype)
        blocks = F.embedding(self.between, table).permute(0, 3, 1, 2)
        if self.pairs is None:
            bias = blocks
        else:
            bias = F.embedding(self.pairs, blocks.flatten(1))
            bias = bias.unflatten(-1, blocks.shape[1:])
            # window, P, P', head, T, T'
            bias = bias.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        if self.apart is None:
            return bias
        apart = self.apart.to(dtype).unsqueeze(1)
        if self.pairs is None:
            return bias + apart
        return (bias.unflatten(0, (-1, len(apart))) + apart).flatten(0, 1)

    def cut(self, x: Tensor) -> Tensor:
        """``(R, H, W, C)`` to ``(R·windows, L, C)``, blocks first in L."""
        if self.padding != (0, 0):
            x = F.pad(x, (0, 0, 0, self.padding[1], 0, self.padding[0]))
        if self.shift != (0, 0):
            x = x.roll((-self.shift[0], -self.shift[1]), dims=(1, 2))
        return cut_windows(x, self.window, self.block).flatten(0, 1)

    def join(self, x: Tensor, grid: Pair) -> Tensor:
        """Undo :meth:`cut` for maps of ``grid`` tokens."""
        height, width = (g + p for g, p in zip(grid, self.padding))
        blocks = [w // b for w, b in zip(self.window, self.block)]
        x = x.reshape(
            -1, height // self.window[0], width // self.window[1], *blocks,
            *self.block, x.size(-1))
        x = x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, height, width, x.size(-1))
        if self.shift != (0, 0):
            x = x.roll(self.shift, dims=(1, 2))
        return x[:, :grid[0], :grid[1]] if self.padding != (0, 0) else x


def cut_windows(x: Tensor, window: Pair, block: Pair) -> Tensor:
    """``(R, H, W, C)`` to ``(R, windows, L, C)``: windows in row-major order,
    in each the blocks, and in each block its tokens.
    """
    blocks = [w // b for w, b in zip(window, block)]
    x = x.unflatten(2, (-1, blocks[1], block[1]))
    x = x.unflatten(1, (-1, blocks[0], block[0]))
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(3, 6).flatten(1, 2)


def _points(rows: range, cols: range, device: torch.device) -> Tensor:
    """``(rows · cols, 2)``, int64: row and column, row-major."""
    axes = [torch.arange(a.start, a.stop, device=device) for a in (rows, cols)]
    return torch.stack(torch.meshgrid(*axes, indexing='ij'), -1).flatten(0, 1)


def _steps(reach: Pair, device: torch.device) -> Tensor:
    """All steps up to ``reach`` rows and columns, ``(n, 2)``, int64."""
    rows, cols = (range(-r, r + 1) for r in reach)
    return _points(rows, cols, device)


def _table_index(steps: Tensor, reach: Pair) -> Tensor:
    """``(..., 2)`` steps to rows of :func:`_steps`.

    Steps beyond its reach lie between tokens that are kept apart.
    """
    rows = steps[..., 0].clamp(-reach[0], reach[0]) + reach[0]
    cols = steps[..., 1].clamp(-reach[1], reach[1]) + reach[1]
    return rows * (2 * reach[1] + 1) + cols


def _differences(points: Tensor) -> Tensor:
    """``(..., P, 2)`` to key minus query, ``(..., P, P, 2)``."""
    return points.unsqueeze(-3) - points.unsqueeze(-2)


def _kept_apart(
    size: Pair, window: Pair, shift: Pair, block: Pair, device: torch.device
) -> Tensor:
    """The mask of shifted windows, ``(windows, L, L)``."""
    def part(length: int, window: int, shift: int) -> Tensor:
        # Nothing wraps around where there is no shift.
        place = torch.arange(length, device=device)
        return (place >= length - window).long() + (place >= length - shift)

    rows = part(size[0], window[0], shift[0]) if shift[0] else part(size[0], 0, 0)
    cols = part(size[1], window[1], shift[1]) if shift[1] else part(size[1], 0, 0)
    regions = (3 * rows[:, None] + cols).view(1, *size, 1)
    regions = cut_windows(regions, window, block)[0, ..., 0]
    other = regions[:, :, None] != regions[:, None, :]
    return torch.zeros(other.shape, device=device).masked_fill(other, _APART)


def fit_window(size: Pair, window: int, shifted: bool) -> tuple[Pair, Pair]:
    """Window and shift of maps of ``size``: no larger than the map, and
    where it is the map, not shifted.
    """
    fitting = min(size[0], window), min(size[1], window)
    shift = [window // 2 if shifted and s > window else 0 for s in size]
    return fitting, (shift[0], shift[1])


def image_windows(
    size: Pair, window: int, shifted: bool, device: torch.device
) -> WindowLayout:
    """Windows of maps of whole images, padded below and right if need be.

    Args:
        size (tuple[int, int]): Height and width of the maps.
        window (int): Side of a window.
        shifted (bool): Whether this is a block with shifted windows.
        device (torch.device): Of the index tensors.
    """
    fitting, shift = fit_window(size, window, shifted)
    padding = -size[0] % fitting[0], -size[1] % fitting[1]
    reach = fitting[0] - 1, fitting[1] - 1
    tokens = _points(range(fitting[0]), range(fitting[1]), device)
    padded = size[0] + padding[0], size[1] + padding[1]
    return WindowLayout(
        fitting, shift, padding, fitting,
        offsets=_steps(reach, device).float(),
        between=_table_index(_differences(tokens), reach).unsqueeze(0),
        apart=_kept_apart(padded, fitting, shift, fitting, device)
        if any(shift) else None)


def compact_windows(
    layout: CompactLayout, stage: int, window: int, shifted: bool
) -> WindowLayout:
    """Windows of compact maps, whose tokens lie apart in the image.

    A block is what a stage has of a patch: 4 × 4, 2 × 2 or one token, and in
    the last stage a token that stands for 2 × 2 slots and has the place of
    the first.

    Args:
        layout (CompactLayout): Of the views.
        stage (int): 0 to 3.
        window (int): Side of a window on compact maps.
        shifted (bool): Whether this is a block with shifted windows.
    """
    patches, device = layout.patches, layout.patches.device
    side = max(UNIT >> stage, 1)
    if stage == 3:
        patches = patches[:, ::2, ::2]
    rows, cols = patches.shape[1:3]
    size = rows * side, cols * side
    fitting, shift = fit_window(size, window, shifted)
    block = side, side
    # The patches of two blocks, in rows and columns of patches.
    blocks = fitting[0] // side, fitting[1] // side
    spacing = layout.cell * (2 if stage == 3 else 1)
    play = layout.cell - 1
    reach = spacing * (blocks[0] - 1) + play, spacing * (blocks[1] - 1) + play
    moved = patches.roll((-shift[0] // side, -shift[1] // side), dims=(1, 2))
    moved = cut_windows(moved, blocks, (1, 1)).flatten(0, 1)
    # Of their tokens, in tokens; in the last stage a patch is half of one.
    fine = (reach[0] + 1) * side - 1, (reach[1] + 1) * side - 1
    inside = _differences(_points(range(side), range(side), device))
    between = side * _steps(reach, device)[:, None, None] + inside
    return WindowLayout(
        fitting, shift, (0, 0), block,
        offsets=_steps(fine, device) * (UNIT / 2**stage / side),
        between=_table_index(between, fine),
        pairs=_table_index(_differences(moved), reach),
        apart=_kept_apart(size, fitting, shift, block, device)
        if any(shift) else None)


class WindowAttention(nn.Module):
    """Self-attention within windows.

    Args:
        embed_dims (int): Channels.
        num_heads (int): Heads.
        position_dims (int): Hidden width of the relative-position MLP.
    """

    def __init__(self, embed_dims: int, num_heads: int, position_dims: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.posmlp = RelativePositionMLP(num_heads, position_dims)

    def forward(self, x: Tensor, layout: WindowLayout) -> Tensor:
        """``(R, H, W, C)`` to the same."""
        grid = x.size(1), x.size(2)
        windows = layout.cut(x)
        qkv = self.qkv(windows).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        bias = layout.bias(self.posmlp, query.dtype)
        if 1 < len(bias) < len(query):
            # The windows of an image differ, those of other images do not.
            query, key, value = (
                t.unflatten(0, (-1, len(bias))).flatten(1, 2)
                for t in (query, key, value))
            bias = bias.flatten(0, 1).unsqueeze(0)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out = out.reshape(-1, self.num_heads, *out.shape[2:])
        out = self.proj(out.transpose(1, 2).flatten(2))
        return layout.join(out, grid)
