# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Visible patches, one of every cell, as a smaller image (UM-MAE, arXiv
2205.10063).

``R = B·K`` views, ``V = h·w`` slots of a view; a slot holds one patch, and a
patch ``UNIT × UNIT`` tokens.
"""
from typing import NamedTuple

import torch
from torch import Tensor

from mmeffmae.masking import MaskPlan, gather_views

#: Tokens of the first stage on each side of a patch.
UNIT = 4


class CompactLayout(NamedTuple):
    """Which patches of an image stand side by side in a compact map.

    Attributes:
        slots (tuple[int, int]): Rows and columns h, w of slots.
        cell (int): Patches of the image on each side of a slot's cell; 1 is
            the whole image.
        patches (Tensor): ``(R, h, w, 2)``, int64: row and column of the
            patch in every slot.
    """

    slots: tuple[int, int]
    cell: int
    patches: Tensor

    @classmethod
    def of(cls, plan: MaskPlan) -> 'CompactLayout':
        """The layout of a plan that has a ``cell``."""
        cell = plan.cell or 1
        slots = plan.grid[0] // cell, plan.grid[1] // cell
        ids = plan.ids_keep.flatten(0, 1).unflatten(-1, slots)
        rows = torch.div(ids, plan.grid[1], rounding_mode='floor')
        return cls(slots, cell, torch.stack([rows, ids % plan.grid[1]], dim=-1))


def gather_pixels(images: Tensor, plan: MaskPlan, side: int) -> Tensor:
    """The pixels of the visible patches, cut into tokens.

    Args:
        images (Tensor): ``(B, C, H, W)``.
        plan (MaskPlan): K views of each image.
        side (int): Side of a token, in pixels.

    Returns:
        Tensor: ``(R, V, UNIT·UNIT, C·side·side)``; a token's pixels are
        ordered as the weights of a convolution.
    """
    cut = images.unflatten(3, (-1, UNIT, side)).unflatten(2, (-1, UNIT, side))
    # B, C, rows, i, y, columns, j, x
    patches = cut.permute(0, 2, 5, 3, 6, 1, 4, 7).flatten(3).flatten(1, 2)
    return gather_views(patches, plan.ids_keep).unflatten(-1, (UNIT**2, -1))


def patch_tokens(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """A table of tokens in row-major order, patch by patch.

    Args:
        table (Tensor): ``(rows·UNIT · cols·UNIT, C)``.
        grid (tuple[int, int]): Rows and columns of patches.

    Returns:
        Tensor: ``(rows · cols, UNIT·UNIT·C)``.
    """
    cut = table.view(grid[0], UNIT, grid[1], UNIT, -1)
    return cut.transpose(1, 2).flatten(2).flatten(0, 1)


def assemble(tokens: Tensor, slots: tuple[int, int]) -> Tensor:
    """Put the tokens of every slot side by side.

    Args:
        tokens (Tensor): ``(R, h·w, UNIT·UNIT, C)``.
        slots (tuple[int, int]): h, w.

    Returns:
        Tensor: ``(R, h·UNIT, w·UNIT, C)``.
    """
    cut = tokens.unflatten(2, (UNIT, UNIT)).unflatten(1, slots)
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def expand_slots(tokens: Tensor, plan: MaskPlan, owner: str) -> Tensor:
    """One token of the last map to four slots, by a pixel shuffle.

    Args:
        tokens (Tensor): ``(R, V/4, 4·C)``; of each output channel four in a
            row, for the slots above left, above right, below left and below
            right.
        plan (MaskPlan): Of the views, with a ``cell``.
        owner (str): Who asks; named in errors.

    Returns:
        Tensor: ``(R, V, C)``, slots in row-major order.

    Raises:
        ValueError: If there are not V/4 tokens.
    """
    num_slots = plan.ids_keep.size(-1)
    if plan.cell is None or 4 * tokens.size(1) != num_slots:
        raise ValueError(
            f'{tokens.size(1)} tokens for {num_slots} visible patches ({owner}): '
            'it takes one for 2x2 of them, as UMSwin and UMPVT give with '
            'UniformMasking or WholeImageMasking; use MaskedDecoder otherwise')
    cols = plan.grid[1] // plan.cell // 2
    cut = tokens.unflatten(-1, (-1, 2, 2)).unflatten(1, (-1, cols))
    # R, rows, i, columns, j, C
    return cut.permute(0, 1, 4, 2, 5, 3).flatten(1, 4)
