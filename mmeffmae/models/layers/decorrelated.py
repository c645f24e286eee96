# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Linear and convolution layers that decorrelate their input.

Decorrelated back-propagation (https://arxiv.org/abs/2510.14657, eqs. 1-3):
``z = R x``, ``y = W z + b``. The product ``A = W R`` is formed once a call, so
the layer computes ``y = A x + b`` and no activation is transformed. W and b are
trained through the constant R; R has a rule of its own, see
:mod:`mmeffmae.models.layers.decorrelated_update`.

To everything that saves or loads weights the layers are ordinary ones: a state
dict holds ``A`` under ``weight``, and loading a weight sets R to the identity.
"""
from typing import Any, Optional

import torch
from mmcv.cnn.bricks import wrappers
from torch import Tensor, nn
from torch.nn import functional as F


class RowSampler:
    """Says which input rows the layers keep for the statistics of an update.

    Each row is drawn from a stratum of its own, uniformly, on the device and
    without waiting for it. The generator is private: the masks of a run are
    those of the run without decorrelation, and a layer that is computed again
    in the backward pass draws nothing.

    Args:
        num_rows (int): Rows that each layer keeps of a batch.
        device (torch.device): Of the layers.

    Attributes:
        is_open (bool): Whether the layers keep rows now.
    """

    def __init__(self, num_rows: int, device: torch.device) -> None:
        self.num_rows = num_rows
        self.is_open = False
        self._generator = torch.Generator(device)
        self._strata = torch.arange(num_rows, device=device)
        self._places = torch.empty(num_rows, device=device)

    def draw(self, seed: int) -> None:
        """Draw other rows."""
        self._places.uniform_(generator=self._generator.manual_seed(seed))
        self._places.add_(self._strata).div_(self.num_rows)

    def choose(self, total: int) -> Tensor:
        """Indices ``(num_rows,)``, int64, below ``total``."""
        return (self._places * total).long().clamp_(max=total - 1)


#: Where torch keeps what was registered on a module.
_HOOKS = ('_forward_hooks', '_forward_hooks_with_kwargs',
          '_forward_hooks_always_called', '_forward_pre_hooks',
          '_forward_pre_hooks_with_kwargs', '_backward_hooks',
          '_backward_pre_hooks', '_is_full_backward_hook', '_state_dict_hooks',
          '_state_dict_pre_hooks', '_load_state_dict_post_hooks')


class _Decorrelated(nn.Module):
    """What the layers share; the second base is torch's layer.

    Attributes:
        weight (Parameter): W, ``(out, ...)``, with ``d`` inputs in all.
        decorrelation (Tensor): R in its diagonal blocks, ``(blocks, d / blocks,
            d / blocks)``, float32.
        sampler (RowSampler, optional): Shared with other layers.
        rows (list[Tensor]): The rows kept, ``(num_rows, d)`` for each call.
    """

    weight: nn.Parameter
    bias: Optional[nn.Parameter]
    decorrelation: Tensor

    def _adopt(self, layer: nn.Module, blocks: int) -> None:
        """Take over the parameters of a layer, as the same objects."""
        self.weight, self.bias = layer.weight, layer.bias
        self.training = layer.training
        for name in _HOOKS:  # the same dicts, so that handles remove them
            setattr(self, name, getattr(layer, name))
        inputs = layer.weight[0].numel()
        if inputs % blocks:
            raise ValueError(
                f'blocks {blocks} ({type(self).__name__}) do not divide the '
                f'{inputs} inputs of the layer: use a divisor')
        size = inputs // blocks
        eye = torch.eye(size, device=layer.weight.device)
        self.register_buffer(
            'decorrelation', eye.repeat(blocks, 1, 1), persistent=False)
        self.sampler: Optional[RowSampler] = None
        self.rows: list[Tensor] = []
        self._fused: Optional[tuple[tuple, Tensor]] = None

    def train(self, mode: bool = True) -> '_Decorrelated':
        """As torch's; a weight kept for evaluation is dropped."""
        self._fused = None
        return super().train(mode)

    def fused_weight(self) -> Tensor:
        """``A = W R`` in the shape and type of W, multiplied in float32.

        Kept from batch to batch where nothing learns: in eval mode without
        gradients.
        """
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._product()
        state = tuple((tensor.data_ptr(), tensor._version)
                      for tensor in (self.weight, self.decorrelation))
        if self._fused is None or self._fused[0] != state:
            self._fused = state, self._product()
        return self._fused[1]

    def _product(self) -> Tensor:
        matrix = self.decorrelation
        with torch.autocast(matrix.device.type, enabled=False):
            weight = self.weight.flatten(1).float()
            if len(matrix) == 1:
                fused = weight @ matrix[0]
            else:
                parts = weight.unflatten(1, matrix.shape[:2]).transpose(0, 1)
                fused = (parts @ matrix).transpose(0, 1)
        return fused.reshape(self.weight.shape).to(self.weight.dtype)

    @torch.no_grad()
    def folded_weight(self) -> Tensor:
        """The same for a file or an average: never in TF32."""
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision('highest')
        try:
            return self._product()
        finally:
            torch.set_float32_matmul_precision(precision)

    def keep(self, rows: Tensor) -> None:
        """Keep some of the inputs ``(..., d)``, if this batch is sampled."""
        if self.sampler is not None and self.sampler.is_open and rows.numel():
            rows = rows.detach().reshape(-1, rows.size(-1))
            self.rows.append(rows[self.sampler.choose(len(rows))])

    def _save_to_state_dict(
        self, destination: dict, prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f'{prefix}weight'] = self.folded_weight()

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        loaded = state_dict.get(f'{prefix}weight')
        if loaded is not None and loaded.shape == self.weight.shape:
            size = self.decorrelation.size(-1)
            self.decorrelation.copy_(torch.eye(size))


class DecorrelatedLinear(_Decorrelated, nn.Linear):
    """A linear layer that decorrelates its input.

    Args:
        layer (nn.Linear): Gives its Parameter objects.
        blocks (int): Diagonal blocks of R; 1 decorrelates all inputs.

    Raises:
        ValueError: ``blocks`` does not divide the inputs.
    """

    def __init__(self, layer: nn.Linear, blocks: int = 1) -> None:
        # On meta: the parameters come from the layer.
        super().__init__(layer.in_features, layer.out_features, device='meta')
        self._adopt(layer, blocks)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., d)`` to ``(..., out)``."""
        self.keep(x)
        return F.linear(x, self.fused_weight(), self.bias)


class DecorrelatedConv2d(_Decorrelated, nn.Conv2d):
    """A convolution that decorrelates its receptive fields.

    The vector that R acts on is the unfolded field of ``d = C k_h k_w`` values
    (https://arxiv.org/abs/2405.02385).

    Args:
        layer (nn.Conv2d): Gives its Parameter objects.
        blocks (int): Diagonal blocks of R.

    Raises:
        ValueError: ``blocks`` does not divide the inputs, or the convolution
            has groups, dilation or a padding that is not a number of zeros.
    """

    def __init__(self, layer: nn.Conv2d, blocks: int = 1) -> None:
        if not self.fits(layer):
            raise ValueError(
                f'{layer} (DecorrelatedConv2d) has groups, dilation or padding '
                'that is not a number of zeros: leave the layer as it is')
        super().__init__(
            layer.in_channels, layer.out_channels, layer.kernel_size,
            layer.stride, layer.padding, device='meta')
        self._adopt(layer, blocks)

    @staticmethod
    def fits(layer: nn.Conv2d) -> bool:
        """Whether the convolution is one that can be decorrelated."""
        return (type(layer)._conv_forward is nn.Conv2d._conv_forward
                and layer.groups == 1 and layer.dilation == (1, 1)
                and layer.padding_mode == 'zeros'
                and not isinstance(layer.padding, str))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, out, H', W')``."""
        if self.sampler is not None and self.sampler.is_open and x.numel():
            self.rows.append(self._fields(x.detach()))
        return F.conv2d(
            x, self.fused_weight(), self.bias, self.stride, self.padding)

    def _fields(self, x: Tensor) -> Tensor:
        """The sampled fields ``(num_rows, d)``; no others are unfolded."""
        x = x if x.ndim == 4 else x[None]
        rows, cols = self.padding
        if rows or cols:
            x = F.pad(x, (cols, cols, rows, rows))
        for dim, size, step in zip((2, 3), self.kernel_size, self.stride):
            x = x.unfold(dim, size, step)
        x = x.transpose(1, 2).transpose(2, 3)  # (B, H', W', C, k_h, k_w)
        assert self.sampler is not None
        chosen = self.sampler.choose(x.shape[:3].numel())
        column = chosen % x.size(2)
        row = chosen // x.size(2)
        return x[row // x.size(1), row % x.size(1), column].flatten(1)


#: Layers that can be decorrelated, and what they become.
LAYERS: dict[Any, Any] = {nn.Linear: DecorrelatedLinear, nn.Conv2d: DecorrelatedConv2d}

#: mmcv's do what torch's do.
_KINDS: tuple[Any, ...] = (nn.Linear, nn.Conv2d, wrappers.Linear, wrappers.Conv2d)
_FORWARDS = tuple(kind.forward for kind in _KINDS)


def can_decorrelate(layer: nn.Module) -> bool:
    """Whether a decorrelated form would compute what the layer does.

    A subclass with a forward of its own, a weight that is computed from others
    (``weight_norm`` and other parametrizations) and a convolution with groups
    would not.
    """
    if is_decorrelated(layer):
        return True
    if type(layer).forward not in _FORWARDS or 'weight' not in layer._parameters:
        return False
    return not isinstance(layer, nn.Conv2d) or DecorrelatedConv2d.fits(layer)


def is_decorrelated(layer: nn.Module) -> bool:
    """Whether the layer is one of this module's."""
    return isinstance(layer, _Decorrelated)


def decorrelated(layer: nn.Module, blocks: int = 1) -> '_Decorrelated':
    """The decorrelated form of a layer; one that is decorrelated stays.

    Args:
        layer (nn.Module): An ``nn.Linear`` or ``nn.Conv2d``, or a subclass
            such as mmcv's that computes the same.
        blocks (int): Diagonal blocks of R.

    Raises:
        TypeError: There is no decorrelated form.
        ValueError: The layer does not fit it.
    """
    if isinstance(layer, _Decorrelated):
        return layer
    for plain, form in LAYERS.items():
        if isinstance(layer, plain) and type(layer).forward in _FORWARDS:
            return form(layer, blocks)
    raise TypeError(
        f'{type(layer).__name__} has no decorrelated form: choose layers of '
        f'{", ".join(plain.__name__ for plain in LAYERS)}')


def project_fields(
    conv: nn.Conv2d, fields: Tensor, unit: Optional[int] = None
) -> Tensor:
    """What a convolution, decorrelated or not, makes of unfolded fields.

    Args:
        conv (nn.Conv2d): Without groups; of square fields.
        fields (Tensor): ``(..., d)``, with values in the order ``(C, k, k)``.
        unit (int, optional): If given, values are in the order ``(k/unit,
            k/unit, unit, unit, C)`` instead.

    Returns:
        Tensor: ``(..., out)``.
    """

    def arranged(weight: Tensor) -> Tensor:
        if unit is None:
            return weight.flatten(1)
        weight = weight.unflatten(2, (-1, unit)).unflatten(4, (-1, unit))
        return weight.permute(0, 2, 4, 3, 5, 1).flatten(1)

    weight = conv.weight
    if isinstance(conv, DecorrelatedConv2d):
        weight, count = conv.fused_weight(), len(conv.rows)
        conv.keep(fields)
        if unit is not None and len(conv.rows) > count:
            places = torch.arange(weight[0].numel(), device=weight.device)
            places = arranged(places.view(1, *weight.shape[1:]))[0]
            kept = conv.rows[-1]
            conv.rows[-1] = torch.empty_like(kept).index_copy_(1, places, kept)
    return F.linear(fields, arranged(weight), conv.bias)
