# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Stems of several convolutions, for MaskedViT (see ``stems.py``)."""
import math
from typing import NamedTuple, Optional, Union

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmeffmae.masking import MaskPlan, gather_views, visible_neighbours
from mmeffmae.registry import MODELS

from .decorrelated import project_fields


class _Conv(NamedTuple):
    kernel: int
    stride: int
    padding: int
    channels: int


def _overlap2(patch_size: int, embed_dims: int) -> list[_Conv]:
    stride = patch_size // 4
    return [_Conv(8, 4, 2, 48), _Conv(stride + 2, stride, 1, embed_dims)]


def _patch2(patch_size: int, embed_dims: int) -> list[_Conv]:
    stride = patch_size // 4
    return [_Conv(4, 4, 0, 96), _Conv(stride, stride, 0, embed_dims)]


def _early4(patch_size: int, embed_dims: int) -> list[_Conv]:
    halvings = patch_size.bit_length() - 1
    widths = [embed_dims // 2**i for i in range(halvings, 0, -1)]
    return [_Conv(3, 2, 1, width) for width in widths] + [_Conv(1, 1, 0, embed_dims)]


_KINDS = dict(overlap2=_overlap2, patch2=_patch2, early4=_early4)


class _Stage(nn.Module):
    """A convolution, then norm over channels and GELU unless it is the last."""

    def __init__(self, in_channels: int, conv: _Conv, last: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, conv.channels, conv.kernel, conv.stride, conv.padding)
        self.ln: Optional[nn.Module] = None
        if not last:
            self.ln = nn.LayerNorm(conv.channels, eps=1e-6)

    def _activate(self, x: Tensor) -> Tensor:
        return x if self.ln is None else F.gelu(self.ln(x))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the next smaller map."""
        x = self.conv(x).permute(0, 2, 3, 1)
        return self._activate(x).permute(0, 3, 1, 2)

    def on_cells(self, cells: Tensor, neighbours: Optional[Tensor]) -> Tensor:
        """The same at visible patches only, masked ones being zero.

        Args:
            cells (Tensor): ``(M, s, s, C)``, the locations of every visible
                patch.
            neighbours (Tensor, optional): Of :func:`visible_neighbours`; not
                needed where windows stay within a patch.

        Returns:
            Tensor: ``(M, s', s', C')``.
        """
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        padding, side = self.conv.padding[0], cells.size(1)
        # Neighbouring locations that no window parts move as one.
        unit = math.gcd(kernel, stride, padding, side)
        cells = _blocks(cells, unit)
        if padding:
            assert neighbours is not None
            windows = _windows(
                cells, neighbours, kernel // unit, stride // unit, padding // unit)
        else:
            windows = _blocks(cells, kernel // unit)
        return self._activate(project_fields(self.conv, windows, unit))


def _blocks(cells: Tensor, size: int) -> Tensor:
    """``(M, s, s, C)`` to ``(M, s/size, s/size, size·size·C)``."""
    if size == 1:
        return cells
    cells = cells.unflatten(1, (-1, size)).unflatten(3, (-1, size))
    return cells.transpose(2, 3).flatten(3)


def _windows(
    cells: Tensor, neighbours: Tensor, kernel: int, stride: int, padding: int
) -> Tensor:
    """``(M, s, s, C)`` to the inputs of each output, ``(M, s', s', k·k·C)``."""
    num, side, _, channels = cells.shape
    outputs = torch.arange(0, side, stride, device=cells.device)
    place = outputs[:, None] + torch.arange(kernel, device=cells.device) - padding
    which, inner = place // side + 1, place % side
    which = 3 * which[:, None, :, None] + which[None, :, None, :]
    inner = side * inner[:, None, :, None] + inner[None, :, None, :]
    index = neighbours[:, which.flatten()] * side**2 + inner.flatten()
    # Masked neighbours are a last patch of zeros.
    rows = F.pad(cells, (0, 0) * 3 + (0, 1)).view(-1, channels)
    return rows.index_select(0, index.flatten()).view(
        num, len(outputs), len(outputs), -1)


@MODELS.register_module()
class ConvStem(BaseModule):
    """Progressive convolutional patch embedding (CLMAE, ICASSP 2023).

    The paper is known by its abstract only, so the kinds are
    reconstructions. For a patch of 16 pixels (kernel / stride / padding):

    - ``'overlap2'``: 8/4/2 to 48 channels, 6/4/1. Even kernels centre every
      window on its patch: a token sees all of its patch and 6 pixels around.
    - ``'patch2'``: 4/4/0 to 96 channels, 4/4/0. No window leaves its patch.
    - ``'early4'``: halvings 3/2/1 to the width over 16, 8, 4 and 2, then 1/1/0
      ("Early Convolutions", https://arxiv.org/abs/2106.14881).

    Between two convolutions stand a norm over channels, at every location on
    its own, and GELU. Masked patches are zero at the input of *every*
    convolution, so no masked pixel reaches a visible token, and only visible
    patches are computed. Views of one image are therefore embedded one by
    one, at the cost of their visible patches.

    Args:
        kind (str): One of the above.
        mask_conv (str): ``'input'``, or ``'none'`` to let masked pixels leak,
            as an ablation.
        patch_size (int): Side of a patch, in pixels.
        embed_dims (int): Width of the tokens.
        in_channels (int): Channels of the images.
        input_size (int | tuple): Height and width of images, in pixels.

    Raises:
        ValueError: The kind or ``mask_conv`` is unknown, or the kind is not
            defined for the patch size.
    """

    def __init__(
        self,
        patch_size: int,
        embed_dims: int,
        in_channels: int = 3,
        input_size: Union[int, tuple[int, int]] = 224,
        kind: str = 'overlap2',
        mask_conv: str = 'input',
    ) -> None:
        super().__init__()
        if kind not in _KINDS:
            raise ValueError(
                f'stem kind {kind!r} is unknown (ConvStem): use one of '
                f'{", ".join(_KINDS)}, or PatchifyStem')
        if mask_conv not in ('input', 'none'):
            raise ValueError(
                f"mask_conv {mask_conv!r} is unknown (ConvStem): use 'input' or "
                "'none'")
        if patch_size < 8 or patch_size & (patch_size - 1):
            raise ValueError(
                f'patch_size {patch_size} (ConvStem): the stems halve or quarter '
                'the image step by step, so they need 8, 16 or 32; use '
                'PatchifyStem for others')
        size = (input_size, input_size) if isinstance(input_size, int) else input_size
        self.init_out_size = size[0] // patch_size, size[1] // patch_size
        self.patch_size = patch_size
        self.kind = kind
        self.mask_conv = mask_conv
        convs = _KINDS[kind](patch_size, embed_dims)
        widths = [in_channels, *(conv.channels for conv in convs)]
        self.stages = nn.ModuleList(
            _Stage(width, conv, last=conv is convs[-1])
            for width, conv in zip(widths, convs))
        self.overlaps = any(conv.padding for conv in convs)

    def init_weights(self) -> None:
        """As MAE's patch projection."""
        super().init_weights()
        for stage in self.stages:
            nn.init.xavier_uniform_(stage.conv.weight.data.flatten(1))
            nn.init.zeros_(stage.conv.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Embed whole images, padded to whole patches.

        Args:
            images (Tensor): ``(B, C, H, W)``.

        Returns:
            tuple: Tokens ``(B, N, embed_dims)``, and their grid.
        """
        bottom, right = (-side % self.patch_size for side in images.shape[-2:])
        x = F.pad(images, (0, right, 0, bottom))
        for stage in self.stages:
            x = stage(x)
        return x.flatten(2).transpose(1, 2), tuple(x.shape[-2:])

    def embed_visible(self, images: Tensor, plan: MaskPlan) -> Tensor:
        """Embed the visible patches of every view.

        Args:
            images (Tensor): ``(B, C, H, W)``.
            plan (MaskPlan): K views of each image.

        Returns:
            Tensor: ``(B·K, V, embed_dims)``.
        """
        if self.mask_conv == 'none':
            return gather_views(self(images)[0], plan.ids_keep)
        pixels = F.pixel_unshuffle(images, self.patch_size)
        pixels = gather_views(pixels.flatten(2).transpose(1, 2), plan.ids_keep)
        shape = pixels.shape[:2]
        cells = pixels.view(-1, images.size(1), self.patch_size, self.patch_size)
        cells = cells.permute(0, 2, 3, 1)
        neighbours = visible_neighbours(plan) if self.overlaps else None
        for stage in self.stages:
            cells = stage.on_cells(cells, neighbours)
        return cells.view(*shape, -1)
