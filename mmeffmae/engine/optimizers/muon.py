# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import math
from collections.abc import Callable, Iterable
from typing import Any, Optional, Union

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from mmeffmae.registry import OPTIMIZERS

from .newton_schulz import NodeSharing


@OPTIMIZERS.register_module()
class MuonAdamW(Optimizer):
    """Muon for hidden matrices, AdamW for everything else, as one optimizer.

    Muon (https://kellerjordan.github.io/posts/muon/) orthogonalises the
    momentum of a matrix; it is for two-dimensional weights between hidden
    layers. Its steps have the root mean square of AdamW's
    (https://arxiv.org/abs/2502.16982), so one learning rate and one weight
    decay serve both. Groups of parameters with ``muon=True`` take it::

        paramwise_cfg = dict(custom_keys={'qkv.weight': dict(muon=True)})

    It computes what ``torch.optim.Muon`` does, up to rounding in bfloat16, with
    all matrices of a shape in one product instead of one by one, which a GPU would
    mostly wait for; and the processes of a computer share the matrices, which are
    equal on all of them under data parallelism.

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
        odd = [p for group in matrices for p in group['params'] if p.ndim != 2]
        if odd:
            raise ValueError(
                f'a parameter of shape {tuple(odd[0].shape)} has muon=True '
                '(MuonAdamW), which is for matrices: name linear layers alone')
        # It fills in the defaults that the groups lack.
        self._adamw = AdamW(others, fused=fused) if others else None
        self._sharing: Optional[NodeSharing] = None

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
        matrices, others = self._split()
        if self._sharing is None:
            self._sharing = NodeSharing()
        for group in matrices:
            self._step_matrices(group, self._sharing)
        if self._adamw is not None:
            # The groups and the state are this optimizer's: loading replaces them.
            self._adamw.param_groups, self._adamw.state = others, self.state
            self._adamw.step()
        return loss

    def _step_matrices(self, group: dict[str, Any], sharing: NodeSharing) -> None:
        """A step of Muon; gradients of data-parallel processes are equal."""
        parameters = [p for p in group['params'] if p.grad is not None]
        if not parameters:
            return
        gradients = [p.grad for p in parameters]
        momenta = [self._momentum(p) for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group['momentum'])
        torch._foreach_mul_(parameters, 1 - group['lr'] * group['weight_decay'])
        for members in _of_equal_shape(parameters):
            updates = [momenta[i] for i in members]
            if group['nesterov']:
                updates = torch._foreach_lerp(
                    [gradients[i] for i in members], updates, group['momentum'])
            directions = sharing.orthogonalise(list(map(_wide, updates)), group['eps'])
            # An orthogonal m × n has a root mean square of 1 / sqrt(max(m, n)), the
            # steps of AdamW one of about 0.2.
            rate = 0.2 * math.sqrt(directions.size(-1)) * group['lr']
            torch._foreach_add_(
                [_wide(parameters[i]) for i in members],
                directions.to(parameters[members[0]].dtype).unbind(), alpha=-rate)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        state = self.state[parameter]
        if 'momentum_buffer' not in state:
            state['momentum_buffer'] = torch.zeros_like(parameter)
        return state['momentum_buffer']


def _wide(matrix: Tensor) -> Tensor:
    """A matrix or its transpose, with no more rows than columns."""
    return matrix.mT if matrix.size(0) > matrix.size(1) else matrix


def _of_equal_shape(matrices: Iterable[Tensor]) -> Iterable[list[int]]:
    """Their numbers, together where one is another's size or its transpose's."""
    found: dict[tuple, list[int]] = {}
    for i, matrix in enumerate(matrices):
        found.setdefault((*_wide(matrix).shape, matrix.dtype), []).append(i)
    return found.values()
