# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from typing import Any, Optional

import torch
from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmeffmae.masking import gather_tokens, scatter_tokens
from mmeffmae.registry import MODELS

from .layout import TokenLayout


def _to_map(tokens: Tensor, ids: Optional[Tensor], grid: tuple[int, int]) -> Tensor:
    """``(R, V, C)`` to ``(R, C, H, W)``, channels last, masked patches zero."""
    if ids is not None:
        tokens = scatter_tokens(tokens, ids, grid[0] * grid[1])
    return tokens.unflatten(1, grid).permute(0, 3, 1, 2)


def _from_map(x: Tensor, ids: Optional[Tensor]) -> Tensor:
    """``(R, C, H, W)`` to ``(R, V, C)``."""
    tokens = x.flatten(2).transpose(1, 2)
    return tokens if ids is None else gather_tokens(tokens, ids)


#: Numbers of a map that stay in a CPU's cache from one operation to the next.
_CACHED_NUMBERS = 2**20


def _slices(x: Tensor, grid: tuple[int, int]) -> list[slice]:
    """Rows that are convolved together: all on a GPU, few on a CPU.

    Maps that leave the cache take twice the time there.
    """
    number = x.size(0)
    if x.device.type == 'cpu':
        number = max(1, _CACHED_NUMBERS // (grid[0] * grid[1] * x.size(-1)))
    return [slice(i, i + number) for i in range(0, x.size(0), number)]


class _CompactConv(torch.autograd.Function):
    """GELU, and a depth-wise convolution of the patches added to it.

    Saves its input alone; maps, three quarters of which are zeros, are made
    again in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, ids: Optional[Tensor],
        grid: tuple[int, int], extra: int, activate: bool
    ) -> Tensor:
        out = F.gelu(x) if activate else x.clone()
        for rows in _slices(x, grid):
            places = None if ids is None else ids[rows]
            patches = out[rows, extra:]
            dense = F.conv2d(
                _to_map(patches, places, grid), weight, bias,
                padding=weight.size(-1) // 2, groups=x.size(-1))
            patches += _from_map(dense, places)
        ctx.save_for_backward(x, weight, ids)
        ctx.grid, ctx.extra, ctx.activate = grid, extra, activate
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        x, weight, ids = ctx.saved_tensors
        grad_x = grad.clone()
        wide = torch.promote_types(weight.dtype, torch.float32)
        grad_weight = torch.zeros_like(weight, dtype=wide)
        for rows in _slices(x, ctx.grid):
            places = None if ids is None else ids[rows]
            inner = x[rows, ctx.extra:]
            dense = _to_map(F.gelu(inner) if ctx.activate else inner, places, ctx.grid)
            patches = grad_x[rows, ctx.extra:]
            grad_dense = _to_map(patches, places, ctx.grid)
            # One call for both takes twice as long on CPUs.
            grad_weight += _conv_backward(grad_dense, dense, weight, 1)
            grad_dense = _conv_backward(grad_dense, dense, weight, 0)
            patches += _from_map(grad_dense, places)
        if ctx.activate:
            grad_x = torch.ops.aten.gelu_backward(grad_x, x)
        grad_bias = grad[:, ctx.extra:].sum((0, 1))
        return (grad_x, grad_weight.to(weight.dtype), grad_bias, None, None, None,
                None)


def _conv_backward(grad: Tensor, x: Tensor, weight: Tensor, which: int) -> Tensor:
    """Gradient of the input (``which`` 0) or the weight (1).

    The functions of ``torch.nn.grad`` lose the memory format and copy maps.
    """
    padding = weight.size(-1) // 2
    mask = [which == 0, which == 1, False]
    return torch.ops.aten.convolution_backward(
        grad, x, weight, None, [1, 1], [padding] * 2, [1, 1], False, [0, 0],
        x.size(1), mask)[which]


def _dense_conv(
    x: Tensor, weight: Tensor, bias: Tensor, ids: Optional[Tensor],
    grid: tuple[int, int], extra: int, activate: bool
) -> Tensor:
    """What :class:`_CompactConv` computes, left to autograd."""
    x = F.gelu(x) if activate else x
    patches = x[:, extra:]
    dense = F.conv2d(
        _to_map(patches, ids, grid), weight, bias, padding=weight.size(-1) // 2,
        groups=x.size(-1))
    return torch.cat([x[:, :extra], patches + _from_map(dense, ids)], dim=1)


_EXECUTORS = dict(compact=_CompactConv.apply, dense=_dense_conv)


@MODELS.register_module()
class ConvFFN(FFN):
    """Feed-forward layer with a depth-wise convolution in its middle.

    "One additional convolution in the feed-forward layer" is all that CLMAE's
    abstract (ICASSP 2023) says; the form is CeiT's LeFF
    (https://arxiv.org/abs/2103.11816, §3.2) without its batch norms, which
    would mix masked locations into their statistics. Visible tokens are put
    on the grid, masked patches being zero, so nothing leaks; the class token
    passes by. The convolution is added to its input and starts at zero.

    Parameter names are those of mmcv's ``FFN``, and ``dwconv``.

    Args:
        embed_dims (int): Width of the tokens.
        feedforward_channels (int): Width of the hidden layer.
        drop_path_rate (float): Stochastic depth.
        kernel_size (int): Odd side of the convolution. Defaults to 3.
        style (str): ``'ceit'`` is linear, GELU, convolution, GELU, linear;
            ``'mix'`` leaves the first GELU out, so that the layer starts as a
            plain one. Defaults to ``'ceit'``.
        executor (str): ``'compact'`` keeps visible tokens only for the
            backward pass, ``'dense'`` leaves the maps to autograd; the results
            are equal. Defaults to ``'compact'``.

    Raises:
        ValueError: A choice is unknown, or ``kernel_size`` is even.
    """

    def __init__(
        self,
        embed_dims: int,
        feedforward_channels: int,
        drop_path_rate: float = 0.,
        kernel_size: int = 3,
        style: str = 'ceit',
        executor: str = 'compact',
    ) -> None:
        for name, value, choices in (('style', style, ('ceit', 'mix')),
                                     ('executor', executor, tuple(_EXECUTORS))):
            if value not in choices:
                raise ValueError(
                    f'{name} {value!r} is unknown (ConvFFN): use '
                    f'{" or ".join(map(repr, choices))}')
        if kernel_size % 2 == 0:
            raise ValueError(
                f'kernel_size {kernel_size} is even (ConvFFN), so no patch is its '
                f'centre: use {kernel_size + 1}')
        super().__init__(
            embed_dims,
            feedforward_channels,
            act_cfg=dict(type='GELU'),
            dropout_layer=dict(type='DropPath', drop_prob=drop_path_rate))
        self.style = style
        self.executor = executor
        self.dwconv = nn.Conv2d(
            feedforward_channels, feedforward_channels, kernel_size,
            padding=kernel_size // 2, groups=feedforward_channels)
        nn.init.zeros_(self.dwconv.weight)
        nn.init.zeros_(self.dwconv.bias)

    def forward(
        self, x: Tensor, identity: Optional[Tensor] = None, *, layout: TokenLayout
    ) -> Tensor:
        """Feed forward, and add ``identity``.

        Args:
            x (Tensor): ``(R, E + V, C)``, E tokens before the patches.
            identity (Tensor, optional): The shortcut. Defaults to ``x``.
            layout (TokenLayout): Where the tokens stand.

        Returns:
            Tensor: ``(R, E + V, C)``.
        """
        hidden = self.layers[0][0](x)
        # Autocast does not reach into an autograd function.
        weight = self.dwconv.weight.to(hidden.dtype)
        bias = self.dwconv.bias.to(hidden.dtype)
        hidden = _EXECUTORS[self.executor](
            hidden, weight, bias, layout.ids, layout.grid,
            layout.num_extra_tokens, self.style == 'ceit')
        out = self.layers[1](self.layers[0][1](hidden))
        identity = x if identity is None else identity
        return identity + self.dropout_layer(out)
