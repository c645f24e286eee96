# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Sequence
from typing import Optional, Union

import torch
from torch import Tensor, nn

from mmeffmae.masking import MaskPlan, gather_table
from mmeffmae.registry import MODELS

from ..layers import (
    UNIT,
    CompactLayout,
    ReducedAttention,
    init_convolution,
    patch_tokens,
    resize_positions,
    sincos_positions,
)
from .um_pyramid import PyramidBlock, UMPyramid


def _arch(*depths: int) -> dict:
    return dict(
        embed_dims=[64, 128, 320, 512],
        depths=list(depths),
        num_heads=[1, 2, 5, 8],
        mlp_ratios=[8, 8, 4, 4],
        sr_ratios=[8, 4, 2, 1])


@MODELS.register_module()
class UMPVT(UMPyramid):
    """The pyramid vision transformer of UM-MAE
    (https://arxiv.org/abs/2205.10063), after PVT (arXiv 2102.12122).

    Not the stock one, and stock weights do not fit: one position table in
    the first stage, no class token, and a reduction in space whose weights
    do not depend on its ratio, so that compact maps can have half of it.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'medium'``, ``'large'``
            or their first letters (the paper has Small), or a dict with
            ``embed_dims``, ``depths``, ``num_heads``, ``mlp_ratios`` and
            ``sr_ratios``, each of four stages.
        **kwargs: Of :class:`UMPyramid`: ``img_size``, ``patch_size``,
            ``in_channels``, ``drop_path_rate``, ``out_indices``,
            ``out_type``, ``frozen_stages``, ``with_cp`` and ``init_cfg``.

    Example:
        >>> pvt = UMPVT('small', img_size=64, patch_size=8)
        >>> plan = UniformMasking(0)(torch.rand(2, 8, 8))
        >>> pvt(torch.rand(2, 3, 64, 64), plan).shape
        torch.Size([2, 4, 512])
    """

    arch_zoo = {
        **dict.fromkeys(['t', 'tiny'], _arch(2, 2, 2, 2)),
        **dict.fromkeys(['s', 'small'], _arch(3, 4, 6, 3)),
        **dict.fromkeys(['m', 'medium'], _arch(3, 4, 18, 3)),
        **dict.fromkeys(['l', 'large'], _arch(3, 8, 27, 3)),
    }

    def __init__(self, arch: Union[str, dict] = 'small', **kwargs) -> None:
        super().__init__(arch, **kwargs)
        rows, cols = self.token_resolution
        self.pos_embed = nn.Parameter(torch.zeros(1, rows * cols, self.widths[0]))
        self._freeze()  # the table was not there before

    @property
    def token_resolution(self) -> tuple[int, int]:
        """Rows and columns of the position table: tokens, not patches."""
        return self.patch_resolution[0] * UNIT, self.patch_resolution[1] * UNIT

    def _widths(self) -> tuple[int, ...]:
        return tuple(self.arch_settings['embed_dims'])

    def _build_block(self, stage: int, first: bool, rate: float) -> PyramidBlock:
        width = self.widths[stage]
        attn = ReducedAttention(width, self.arch_settings['num_heads'][stage])
        merge = self._merge(stage, norm=False) if first else None
        ratio = self.arch_settings['mlp_ratios'][stage]
        return PyramidBlock(attn, width, ratio, rate, merge)

    def _init_own(self) -> None:
        for block in self.blocks:
            init_convolution(block.attn.sr)
        table = sincos_positions(self.token_resolution, self.widths[0], cls_token=False)
        self.pos_embed.data.copy_(table)

    def freeze_pos_embed(self) -> None:
        """Keep the position table fixed, as pre-training does."""
        self.pos_embed.requires_grad_(False)

    def _how(
        self, stage: int, size: tuple[int, int], compact: Optional[CompactLayout],
        device: torch.device
    ) -> Sequence[int]:
        ratio = self.arch_settings['sr_ratios'][stage]
        return [max(ratio // (compact.cell if compact else 1), 1)]

    def _positions(self, size: tuple[int, int]) -> Tensor:
        return resize_positions(
            self.pos_embed, self.token_resolution, size, num_extra_tokens=0)

    def _add_positions(self, x: Tensor) -> Tensor:
        size = x.size(1), x.size(2)
        return x + self._positions(size).unflatten(1, size)

    def _visible_positions(self, plan: MaskPlan) -> Tensor:
        size = plan.grid[0] * UNIT, plan.grid[1] * UNIT
        table = patch_tokens(self._positions(size)[0], plan.grid)
        return gather_table(table, plan.ids_keep).unflatten(-1, (UNIT**2, -1))

    def _prepare_loaded(self, state_dict: dict, prefix: str, *args) -> None:
        super()._prepare_loaded(state_dict, prefix, *args)
        name = prefix + 'pos_embed'
        table = state_dict.get(name)
        if table is None or table.shape[1] == self.pos_embed.shape[1]:
            return
        side = round(table.shape[1]**.5)
        if side**2 != table.shape[1]:
            raise ValueError(
                f'{name} of {tuple(table.shape)} is not on a square grid, so its '
                'rows and columns are unknown and it cannot be resized to '
                f'{self.token_resolution} (UMPVT): set img_size to that of the '
                'checkpoint; other image sizes are resized in the forward pass')
        state_dict[name] = resize_positions(
            table, (side, side), self.token_resolution, num_extra_tokens=0)
