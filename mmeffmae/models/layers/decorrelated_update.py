# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
r"""The learning rule of the decorrelation matrices, many layers at once.

Of n rows :math:`z = R x` of a layer (https://arxiv.org/abs/2405.02385):

.. math::
    M = Z^T Z / n, \quad C = M - diag(M), \quad V = diag(M) - I, \\
    G = (1 - κ) C + κ V, \quad R ← R - η G R.

M is not centred. The step size is at most ``guard`` :math:`/ ‖G‖_F`, since the
rule diverges where :math:`η λ_{max}(G)` exceeds 2; the Frobenius norm is a
bound of the eigenvalue that costs little. Samples that are not finite change
nothing. All matrices of one width are updated in one call, in float32.
"""
from typing import Optional, Union

import torch
from torch import Tensor

Scalar = Union[float, Tensor]


@torch.no_grad()
def update_from_rows_(
    matrices: Tensor,
    rows: Tensor,
    eta: Scalar,
    kappa: float,
    guard: Optional[float] = 0.5,
) -> None:
    """Update matrices from rows of their layers' inputs, in place.

    With fewer rows than columns nothing but R itself has the size of R:
    ``C R = Zᵀ (Z R) / n - diag(M) R``, and ``‖ZᵀZ‖ = ‖Z Zᵀ‖``, which makes
    6 n d² + 2 n² d operations instead of 4 n d² + 2 d³.

    Args:
        matrices (Tensor): ``(L, d, d)``, float32.
        rows (Tensor): ``(L, n, d)``.
        eta (float | Tensor): Learning rate η.
        kappa (float): Weight κ of the variances against the correlations.
        guard (float, optional): Largest ``η ‖G‖_F``; None for none.
    """
    count, width = rows.shape[1:]
    if count >= width:
        update_from_moments_(
            matrices, second_moments(matrices, rows), eta, kappa, guard)
        return
    z = rows.float() @ matrices.mT
    power = z.square().mean(1)
    gram = z @ z.mT
    norm = ((1 - kappa)**2 * (gram.square().sum((1, 2)) / count**2 -
                              power.square().sum(1)).clamp_(min=0) +
            kappa**2 * (power - 1).square().sum(1)).sqrt()
    step, finite = _guarded(eta, norm, guard)
    z = torch.where(finite[:, None, None], z, 0)
    power = torch.where(finite[:, None], power, 0)
    scale = step[:, None] * ((1 - kappa) * power - kappa * (power - 1))
    zr = z @ matrices
    weights = (1 - kappa) * step / count
    matrices.mul_((1 + scale)[:, :, None])
    matrices.baddbmm_(z.mT, zr.mul_(weights[:, None, None]), alpha=-1)


@torch.no_grad()
def update_from_moments_(
    matrices: Tensor,
    moments: Tensor,
    eta: Scalar,
    kappa: float,
    guard: Optional[float] = 0.5,
) -> None:
    """Update matrices from the second moments of z, in place.

    Args:
        matrices (Tensor): ``(L, d, d)``, float32.
        moments (Tensor): M, ``(L, d, d)``, float32; overwritten.
        eta (float | Tensor): Learning rate η.
        kappa (float): Weight κ.
        guard (float, optional): Largest ``η ‖G‖_F``; None for none.
    """
    variances = moments.diagonal(dim1=1, dim2=2)
    deviations = kappa * (variances - 1)
    gradient = moments.mul_(1 - kappa)
    gradient.diagonal(dim1=1, dim2=2).copy_(deviations)
    norm = torch.linalg.matrix_norm(gradient)
    step, finite = _guarded(eta, norm, guard)
    gradient = torch.where(finite[:, None, None], gradient, 0)
    matrices.sub_((step[:, None, None] * gradient) @ matrices)


def second_moments(matrices: Tensor, rows: Tensor) -> Tensor:
    """M ``(L, d, d)`` of ``z = R x``, for rows x ``(L, n, d)``."""
    z = rows.float() @ matrices.mT
    return z.mT @ z / rows.size(1)


def _guarded(
    eta: Scalar, norm: Tensor, guard: Optional[float]
) -> tuple[Tensor, Tensor]:
    """Step sizes ``(L,)`` and whether the statistics are finite."""
    finite = norm.isfinite()
    # Filled on the device: copying a number there would wait for it.
    step = torch.ones_like(norm) * eta
    if guard is not None:
        step = torch.minimum(step, guard / norm)
    return torch.where(finite, step, 0), finite


@torch.no_grad()
def decorrelation_monitors(matrices: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """How far the layers have come.

    Args:
        matrices (Tensor): ``(L, d, d)``, float32.
        rows (Tensor): Inputs ``(L, n, d)``.

    Returns:
        dict[str, Tensor]: ``(L,)`` each. ``correlation``: root mean square of
        the correlation coefficients ``M_ij / sqrt(M_ii M_jj)`` of z, less what
        n rows of independent values would show; ``variance``: mean of
        ``M_ii``; ``distance``: ``‖R - I‖_F / sqrt(d)``.
    """
    z = rows.float() @ matrices.mT
    count, width = z.shape[1:]
    power = z.square().mean(1)
    unit = z / power.clamp(min=torch.finfo(z.dtype).tiny).sqrt()[:, None]
    gram = unit @ unit.mT if count < width else unit.mT @ unit
    squares = gram.square().sum((1, 2)) / count**2
    mean = (squares - width) / max(width * (width - 1), 1)
    chance = (count * mean - 1) / max(count - 1, 1)
    eye = torch.eye(width, device=matrices.device)
    distance = torch.linalg.matrix_norm(matrices - eye) / width**0.5
    return dict(
        correlation=chance.clamp(min=0).sqrt(),
        variance=power.mean(1),
        distance=distance)


def gather_is_cheaper(
    world_size: int, num_rows: int, width: int, itemsize: int
) -> bool:
    """Whether all ranks' rows are less to move than the sum of moments.

    A ring moves the other ranks' rows once, and moments twice.
    """
    gathered = (world_size - 1) * num_rows * itemsize
    reduced = 2 * (world_size - 1) / world_size * 4 * width
    return gathered <= reduced

