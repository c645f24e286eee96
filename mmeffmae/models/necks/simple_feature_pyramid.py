# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import math
from collections.abc import Sequence
from functools import partial

from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmeffmae.registry import MODELS


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """A pyramid of the last map of a plain backbone.

    Every level starts from the same map: transposed convolutions of stride 2,
    which halve the channels, or max pooling, then a 1×1 and a 3×3
    convolution, each with a layer norm (ViTDet, Li et al.,
    https://arxiv.org/abs/2203.16527, §3).

    Args:
        in_channels (int): Channels of the last map.
        out_channels (int): Channels of all levels.
        scales (Sequence[float]): Size of each level over that of the map,
            powers of 2, largest first. With patches of 16 px, the default
            gives strides 4, 8, 16 and 32.
        num_outs (int, optional): Levels, the further ones pooled from the
            last with stride 2. Defaults to one a scale.
        norm_cfg (dict): Norm of all convolutions.
        init_cfg (dict, optional): Of mmengine.

    Raises:
        ValueError: If a scale is no power of 2, or ``num_outs`` is less than
            the number of scales.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        scales: Sequence[float] = (4, 2, 1, 0.5),
        num_outs: int | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_outs = len(scales) if num_outs is None else num_outs
        if self.num_outs < len(scales):
            raise ValueError(
                f'num_outs {num_outs} is less than the {len(scales)} scales '
                f'{tuple(scales)} (SimpleFeaturePyramid): give fewer scales')
        norm_cfg = norm_cfg or dict(type='mmpretrain.LN2d')
        self.levels = nn.ModuleList(
            _level(in_channels, out_channels, scale, norm_cfg) for scale in scales)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Make the levels.

        Args:
            inputs (Sequence[Tensor]): The last counts, ``(B, C, H, W)``.

        Returns:
            tuple[Tensor]: ``num_outs`` maps of ``out_channels``.
        """
        outs = [level(inputs[-1]) for level in self.levels]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)


def _level(channels: int, out_channels: int, scale: float, norm_cfg: dict) -> nn.Module:
    steps = math.log2(scale) if scale > 0 else math.nan
    if not steps.is_integer():
        raise ValueError(
            f'scale {scale} is no power of 2 (SimpleFeaturePyramid): use values '
            'such as 4, 2, 1 and 0.5')
    parts: list[nn.Module] = []
    for step in range(int(steps)):
        if step:
            parts += [build_norm_layer(norm_cfg, channels)[1], nn.GELU()]
        parts.append(nn.ConvTranspose2d(channels, channels // 2, 2, stride=2))
        channels //= 2
    if steps < 0:
        side = 2**int(-steps)
        parts.append(nn.MaxPool2d(side, side))
    convolution = partial(
        ConvModule, out_channels=out_channels, norm_cfg=norm_cfg, act_cfg=None)
    return nn.Sequential(
        *parts,
        convolution(channels, kernel_size=1),
        convolution(out_channels, kernel_size=3, padding=1))
