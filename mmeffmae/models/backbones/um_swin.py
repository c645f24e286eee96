# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Sequence
from typing import Any, Optional, Union

import torch

from mmeffmae.masking import MaskPlan
from mmeffmae.registry import MODELS

from ..layers import (
    UNIT,
    CompactLayout,
    WindowAttention,
    WindowLayout,
    compact_windows,
    image_windows,
    init_convolution,
)
from .um_pyramid import PyramidBlock, UMPyramid


def _arch(width: int, third: int, heads: int, position_dims: int) -> dict:
    return dict(
        embed_dims=width,
        depths=[2, 2, third, 2],
        num_heads=[heads, 2 * heads, 4 * heads, 8 * heads],
        position_dims=position_dims)


@MODELS.register_module()
class UMSwin(UMPyramid):
    """The Swin transformer of UM-MAE (https://arxiv.org/abs/2205.10063).

    Not the stock one, and stock weights do not fit: the relative-position
    bias comes from a small network on log-spaced offsets, patches are merged
    by a convolution, and blocks are one list. Windows of half the side on
    compact maps span the offsets that whole windows have in images, so one
    set of weights serves both.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'base'``, ``'large'``
            or their first letters (the paper has Tiny and Large), or a dict
            with ``embed_dims`` (of the first stage), ``depths``,
            ``num_heads`` and ``position_dims``.
        window_size (int): Side of a window on whole images, in tokens; a
            multiple of 16. Maps that are no larger are one window.
        **kwargs: Of :class:`UMPyramid`: ``img_size``, ``patch_size``,
            ``in_channels``, ``drop_path_rate``, ``out_indices``,
            ``out_type``, ``frozen_stages``, ``with_cp`` and ``init_cfg``.

    Raises:
        ValueError: If the window does not hold whole patches.

    Example:
        >>> swin = UMSwin('tiny', img_size=64, patch_size=8)
        >>> plan = UniformMasking(0)(torch.rand(2, 8, 8))
        >>> swin(torch.rand(2, 3, 64, 64), plan).shape
        torch.Size([2, 4, 768])
        >>> swin(torch.rand(2, 3, 96, 64))[0].shape
        torch.Size([2, 768, 6, 4])
    """

    arch_zoo = {
        **dict.fromkeys(['t', 'tiny'], _arch(96, 6, 3, 32)),
        **dict.fromkeys(['s', 'small'], _arch(96, 18, 3, 32)),
        **dict.fromkeys(['b', 'base'], _arch(128, 18, 4, 64)),
        **dict.fromkeys(['l', 'large'], _arch(192, 18, 6, 64)),
    }

    def __init__(
        self,
        arch: Union[str, dict] = 'tiny',
        *,
        window_size: int = 16,
        **kwargs,
    ) -> None:
        if window_size < 1 or window_size % (4 * UNIT):
            raise ValueError(
                f'window_size {window_size} (UMSwin): half of it, and half of '
                f'that, must hold whole patches of {UNIT}x{UNIT} tokens, so use '
                f'a multiple of {4 * UNIT}')
        self.window_size = window_size
        super().__init__(arch, **kwargs)

    def _widths(self) -> tuple[int, ...]:
        return tuple(self.arch_settings['embed_dims'] << stage for stage in range(4))

    def _embed_norm(self) -> Optional[dict]:
        return dict(type='LN', eps=1e-6)

    def _build_block(self, stage: int, first: bool, rate: float) -> PyramidBlock:
        width = self.widths[stage]
        heads = self.arch_settings['num_heads'][stage]
        attn = WindowAttention(width, heads, self.arch_settings['position_dims'])
        merge = self._merge(stage, norm=True) if first else None
        return PyramidBlock(attn, width, 4, rate, merge)

    def _init_own(self) -> None:
        for block in self.blocks:
            init_convolution(block.attn.posmlp.fc1)
            init_convolution(block.attn.posmlp.fc2)

    def _how(
        self, stage: int, size: tuple[int, int], compact: Optional[CompactLayout],
        device: torch.device
    ) -> Sequence[WindowLayout]:
        window = self.window_size // (compact.cell if compact else 1)
        # Maps that are one window are not shifted.
        turns = (False, True) if max(size) > window else (False, )
        if compact is None:
            return [image_windows(size, window, turn, device) for turn in turns]
        return [compact_windows(compact, stage, window, turn) for turn in turns]

    def check_plan(self, plan: MaskPlan) -> None:
        """Say early what this encoder cannot take.

        Raises:
            ValueError: As :meth:`UMPyramid.check_plan`, and if windows do
                not divide the compact map of a stage.
        """
        super().check_plan(plan)
        cell = plan.cell or 1
        window = self.window_size // cell
        for side in plan.grid if cell > 1 else ():
            tokens = side // cell * UNIT
            maps = [tokens >> stage for stage in range(4)]
            if all(length <= window or length % window == 0 for length in maps):
                continue
            fitting = window
            while 2 * fitting <= tokens:
                fitting *= 2
            pixels = fitting * cell * self.patch_size // UNIT
            raise ValueError(
                f'windows of {window} tokens do not divide the compact maps of '
                f'{maps} tokens a side (UMSwin, grid of {plan.grid} patches): use '
                f'images of {pixels} or {2 * pixels} px a side, or another '
                'window_size')

    def exportable_as(self) -> dict[str, Any]:
        """The config under which an export loads."""
        config = super().exportable_as()
        if self.window_size != 16:
            config['window_size'] = self.window_size
        return config
