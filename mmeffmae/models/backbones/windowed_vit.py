# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmeffmae.registry import MODELS

from ..layers import TokenLayout
from .masked_vit import MaskedViT


@MODELS.register_module()
class WindowedViT(MaskedViT):
    """MaskedViT for large images: attention in windows, global in few layers.

    ViTDet's encoder (Li et al., https://arxiv.org/abs/2203.16527, §3) with the
    parameters of :class:`MaskedViT`, so every checkpoint of that class, or
    exported from it, loads. Two differences to the paper: it has no relative
    positions, and the class token stays; it takes part in every window and
    becomes the mean of what the windows make of it.

    Maps that the window does not divide are padded with zeros at the bottom
    and the right, after the norm; padded tokens are attended to, as the paper
    does. A window is never larger than the map.

    Args:
        window_size (int): Side of a window, in patches.
        global_layers (Sequence[int], optional): Layers whose attention spans
            the map. Defaults to the last of each quarter of the layers.
        **kwargs: Of :class:`MaskedViT`.

    Raises:
        ValueError: If the window has no patch or a layer does not exist.

    Example:
        >>> vit = WindowedViT(arch='t', img_size=224, final_norm=False)
        >>> vit(torch.rand(1, 3, 512, 768))[0].shape
        torch.Size([1, 192, 32, 48])
    """

    def __init__(
        self,
        window_size: int = 14,
        global_layers: Optional[Sequence[int]] = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if window_size < 1:
            raise ValueError(
                f'window_size {window_size} (WindowedViT): use 1 patch or more, '
                'such as 14')
        depth = self.num_layers
        if global_layers is None:
            global_layers = [max(depth * q // 4, 1) - 1 for q in (1, 2, 3, 4)]
        bad = [i for i in global_layers if not 0 <= i < depth]
        if bad:
            raise ValueError(
                f'global_layers {bad} (WindowedViT): the {depth} layers are 0 to '
                f'{depth - 1}')
        self.window_size = window_size
        self.windowed = [i not in global_layers for i in range(depth)]
        # Stochastic depth drops whole images, not windows.
        self.window_drop = nn.ModuleList(part.attn.out_drop for part in self.layers)
        for layer, windowed in zip(self.layers, self.windowed):
            if windowed:
                layer.attn.out_drop = nn.Identity()

    def _attend(self, index: int, x: Tensor, layout: TokenLayout) -> Tensor:
        if not self.windowed[index]:
            return super()._attend(index, x, layout)
        if layout.ids is not None:  # visible tokens of a plan form no map to cut
            return self.window_drop[index](super()._attend(index, x, layout))
        extra = layout.num_extra_tokens
        first, patches = x[:, :extra], x[:, extra:]
        windows, split = split_windows(patches, layout.grid, self.window_size)
        count = windows.size(0) // x.size(0)
        tokens = torch.cat([first.repeat_interleave(count, 0), windows], dim=1)
        tokens = super()._attend(index, tokens, layout)
        patches = join_windows(tokens[:, extra:], layout.grid, split)
        first = tokens[:, :extra].unflatten(0, (-1, count)).mean(1)
        return self.window_drop[index](torch.cat([first, patches], dim=1))


def split_windows(
    tokens: Tensor, grid: tuple[int, int], size: int
) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Cut a map into windows, padded with zeros where it ends.

    Args:
        tokens (Tensor): ``(B, rows·cols, C)``, row-major.
        grid (tuple[int, int]): Rows and columns of the map.
        size (int): Largest side of a window.

    Returns:
        tuple: ``(B·windows, h·w, C)``, and ``(windows down, h, windows
        across, w)`` for :func:`join_windows`.
    """
    rows, cols = grid
    height, width = min(size, rows), min(size, cols)
    down, across = -(-rows // height), -(-cols // width)
    maps = tokens.unflatten(1, grid)
    maps = F.pad(maps, (0, 0, 0, across * width - cols, 0, down * height - rows))
    split = (down, height, across, width)
    windows = maps.unflatten(2, split[2:]).unflatten(1, split[:2]).transpose(2, 3)
    return windows.flatten(0, 2).flatten(1, 2), split


def join_windows(
    windows: Tensor, grid: tuple[int, int], split: tuple[int, int, int, int]
) -> Tensor:
    """Undo :func:`split_windows`.

    Args:
        windows (Tensor): ``(B·windows, h·w, C)``.
        grid (tuple[int, int]): Rows and columns of the map.
        split (tuple): As :func:`split_windows` gave it.

    Returns:
        Tensor: ``(B, rows·cols, C)``.
    """
    down, height, across, width = split
    maps = windows.unflatten(1, (height, width)).unflatten(0, (-1, down, across))
    maps = maps.transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return maps[:, :grid[0], :grid[1]].flatten(1, 2)
