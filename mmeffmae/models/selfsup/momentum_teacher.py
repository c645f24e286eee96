# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import math
from collections.abc import Sequence
from typing import Optional

import torch
from mmengine.model import BaseAveragedModel
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mmeffmae.masking import MaskPlan

from ..layers import TokenDrop, drop_placement


class MomentumTeacher(BaseAveragedModel):
    """A moving average of an encoder, which drops redundant tokens.

    It is always in eval mode, so without stochastic depth and drop-out, and
    gets no gradient. mmengine's and mmpretrain's averages read a counter on
    the device at every update and update each parameter on its own; this one
    does neither.

    Args:
        encoder (nn.Module): A :class:`MaskedViT`, or what has its
            ``forward_retained``, ``token_drop`` and ``num_layers``; copied.
        momentum (float): Share of its weights that the teacher keeps in the
            first update. Defaults to 0.9999, which is for long schedules.
        end_momentum (float): The same at the end, on a cosine in between.
            Defaults to 1; equal to ``momentum`` for a constant one.
        keep_ratio (float): Share of the tokens that stays after each drop.
        drop_indices (Sequence[int], optional): Layers after which tokens are
            dropped. Defaults to the start of each third of the layers.
        drop_metric (str): ``'redundancy'``, or ``'random'`` as a control.

    Raises:
        ValueError: An argument is out of range, or the encoder cannot drop
            tokens.
    """

    def __init__(
        self,
        encoder: nn.Module,
        momentum: float = 0.9999,
        end_momentum: float = 1.,
        keep_ratio: float = 0.5,
        drop_indices: Optional[Sequence[int]] = None,
        drop_metric: str = 'redundancy',
    ) -> None:
        for name, value in dict(
                momentum=momentum, end_momentum=end_momentum).items():
            if not 0 <= value <= 1:
                raise ValueError(
                    f'{name} {value} (MomentumTeacher): use a share from 0 to 1; '
                    'it is what the teacher keeps, 1 minus mmengine\'s momentum')
        if not 0 < keep_ratio <= 1:
            raise ValueError(
                f'keep_ratio {keep_ratio} (MomentumTeacher): use a share above 0 '
                'and up to 1')
        if not hasattr(encoder, 'forward_retained'):
            raise ValueError(
                f'{type(encoder).__name__} cannot drop tokens, so it has no '
                'momentum teacher: use MaskedViT')
        super().__init__(encoder)
        self.momentum = momentum
        self.end_momentum = end_momentum
        layers = encoder.num_layers
        self.module.token_drop = TokenDrop(
            drop_placement(layers) if drop_indices is None else drop_indices,
            layers, 1 - keep_ratio, drop_metric)
        # It is filled from the student, never by itself.
        self.module.init_cfg = None
        self.eval()

    def train(self, mode: bool = True) -> 'MomentumTeacher':
        """Stay in eval mode, whatever is asked for."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, images: Tensor, plan: MaskPlan) -> tuple[Tensor, Tensor]:
        """As :meth:`MaskedViT.forward_retained`, without gradient."""
        return self.module.forward_retained(images, plan)

    def momentum_at(self, progress: float) -> float:
        """The momentum at a share of the schedule, from 0 to 1."""
        cosine = (1 + math.cos(math.pi * progress)) / 2
        return self.end_momentum - (self.end_momentum - self.momentum) * cosine

    def initial_share(self, max_iters: int) -> float:
        """Share of the initial weights in the teacher after a schedule.

        Args:
            max_iters (int): Iterations, each with one update.
        """
        steps = (self.momentum_at(i / max_iters) for i in range(max_iters))
        return math.exp(sum(math.log(max(m, 1e-300)) for m in steps))

    def copy_from(self, encoder: nn.Module) -> None:
        """Take the encoder's weights as they are."""
        self._average(encoder, 0.)

    def update_parameters(self, model: nn.Module, progress: float = 0.) -> None:
        """``teacher = m · teacher + (1 - m) · model``, m by the schedule.

        Args:
            model (nn.Module): The student's encoder.
            progress (float): Share of the schedule that is done.
        """
        self._average(model, self.momentum_at(progress))
        self.steps += 1

    @torch.no_grad()
    def _average(self, model: nn.Module, momentum: float) -> None:
        source = dict(model.named_parameters())
        pairs = [(p, source[name]) for name, p in self.module.named_parameters()]
        average = get_ema_multi_avg_fn(momentum)
        average(*map(list, zip(*pairs)), None)
        for mine, theirs in zip(self.module.buffers(), model.buffers()):
            mine.copy_(theirs)
