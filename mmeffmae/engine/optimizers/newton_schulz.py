# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Matrices made orthogonal, many at a time and each process a share of them."""
import socket
from collections.abc import Sequence
from typing import Optional

import torch
from mmengine.dist import get_world_size
from torch import Tensor, distributed

#: Of the polynomial a x + b x³ + c x⁵, and how often it is applied
#: (https://kellerjordan.github.io/posts/muon/).
_A, _B, _C, _ITERATIONS = 3.4445, -4.7750, 2.0315, 5


def orthogonalise(matrices: Tensor, eps: float) -> Tensor:
    """Bring all singular values near 1, by Newton-Schulz iterations in bfloat16.

    Args:
        matrices: ``(N, m, n)`` with m ≤ n, which is the cheap way round.
        eps: Least norm that a matrix is divided by.

    Returns:
        ``(N, m, n)``, bfloat16.
    """
    x = matrices.bfloat16()
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        factor = torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C)
        x = torch.baddbmm(x, factor, x, beta=_A)
    return x


def orthogonalisation_macs(shape: Sequence[int]) -> int:
    """Multiply-adds of :func:`orthogonalise` for a matrix of a shape."""
    m, n = sorted(shape)
    return _ITERATIONS * (2 * m**2 * n + m**3)


class NodeSharing:
    """Orthogonalises with the other processes of this computer.

    Links between computers are too slow for it to pay. Computers with unequal
    numbers of processes do not share, so that all round alike. To make one is a
    collective operation, and so is its method.
    """

    def __init__(self) -> None:
        self._group: Optional[distributed.ProcessGroup] = None
        if get_world_size() == 1:
            return
        hosts = [''] * get_world_size()
        distributed.all_gather_object(hosts, socket.gethostname())
        ranks = [[rank for rank, host in enumerate(hosts) if host == name]
                 for name in dict.fromkeys(hosts)]
        if len({len(of) for of in ranks}) > 1 or len(ranks[0]) == 1:
            # A product of another number of matrices may be rounded otherwise.
            return
        self._group, _ = distributed.new_subgroups_by_enumeration(ranks)

    def orthogonalise(self, matrices: Sequence[Tensor], eps: float) -> Tensor:
        """As :func:`orthogonalise`; each process computes a part.

        Args:
            matrices: ``(m, n)`` each, m ≤ n, equal on all processes.
            eps: See there.

        Returns:
            ``(N, m, n)``, bfloat16, the same bits on all processes.
        """
        if self._group is None:
            return orthogonalise(torch.stack(tuple(matrices)), eps)
        count = -(-len(matrices) // self._group.size())
        mine = matrices[self._group.rank() * count:][:count]
        part = matrices[0].new_zeros(
            (count, *matrices[0].shape), dtype=torch.bfloat16)
        if mine:
            part[:len(mine)] = orthogonalise(torch.stack(tuple(mine)), eps)
        whole = part.new_empty((count * self._group.size(), *part.shape[1:]))
        distributed.all_gather_into_tensor(whole, part, group=self._group)
        return whole[:len(matrices)]
