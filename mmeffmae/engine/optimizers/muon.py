# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Callable, Iterable
from typing import Any, Optional, Union

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from mmeffmae.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class MuonAdamW(Optimizer):
    """Muon for hidden matrices, AdamW for everything else, as one optimizer.

    Muon (https://kellerjordan.github.io/posts/muon/) orthogonalises the
    momentum of a matrix; it is for two-dimensional weights between hidden
    layers. Its steps have the root mean square of AdamW's
    (https://arxiv.org/abs/2502.16982), so one learning rate and one weight
    decay serve both. Groups of parameters with ``muon=True`` take it::

        paramwise_cfg = dict(custom_keys={'qkv.weight': dict(muon=True)})

    Args:
        params: Parameters or groups.
        lr: Learning rate of both.
        weight_decay: Decoupled weight decay of both.
        betas: Of AdamW.
        eps: Of AdamW, and of the division by the norm in Muon.
        momentum: Of Muon.
        nesterov: Of Muon.
        fused: Of AdamW: one kernel for a whole step.

    Raises:
        RuntimeError: This torch has no Muon.
        ValueError: No group has ``muon=True``, or one that has it holds a
            parameter that is not a matrix.
    """

    def __init__(
        self,
        params: Iterable[Union[nn.Parameter, dict[str, Any]]],
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        momentum: float = 0.95,
        nesterov: bool = True,
        fused: bool = False,
    ) -> None:
        if not hasattr(torch.optim, 'Muon'):
            raise RuntimeError(
                f'torch {torch.__version__} has no Muon (MuonAdamW): install '
                'torch 2.9 or newer, or use AdamW')
        super().__init__(
            params,
            dict(
                lr=lr,
                weight_decay=weight_decay,
                betas=betas,
                eps=eps,
                momentum=momentum,
                nesterov=nesterov,
                fused=fused,
                muon=False))
        matrices, others = self._split()
        if not matrices:
            raise ValueError(
                'no group of parameters has muon=True (MuonAdamW): name the '
                "hidden matrices, such as paramwise_cfg=dict(custom_keys={"
                "'qkv.weight': dict(muon=True)}), or use AdamW")
        # They fill in the defaults that the groups lack.
        self._muon = torch.optim.Muon(matrices, adjust_lr_fn='match_rms_adamw')
        self._adamw = AdamW(others, fused=fused) if others else None

    def _split(self) -> tuple[list[dict], list[dict]]:
        groups: tuple[list[dict], list[dict]] = ([], [])
        for group in self.param_groups:
            groups[not group['muon']].append(group)
        return groups

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], float]] = None) -> Any:
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # The groups and the state are this optimizer's: loading replaces them.
        matrices, others = self._split()
        self._muon.param_groups, self._muon.state = matrices, self.state
        self._muon.step()
        if self._adamw is not None:
            self._adamw.param_groups, self._adamw.state = others, self.state
            self._adamw.step()
        return loss
