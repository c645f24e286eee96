# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from itertools import combinations

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from mmeffmae.masking import MaskPlan, gather_views
from mmeffmae.registry import MODELS


def _l1(x: Tensor) -> Tensor:
    # Sum over pairs of |x_a - x_b| = sum over ranks r of (2r - n + 1)·x_(r);
    # up to three values only the extremes count.
    num = x.size(2)
    if num <= 3:
        return (num - 1) * (x.amax(2) - x.amin(2)).sum()
    weight = torch.arange(1 - num, num, 2, device=x.device, dtype=x.dtype)
    # No matrix product, which autocast would take in half precision.
    return (x.sort(dim=2).values * weight.unsqueeze(-1)).sum()


def _l2(x: Tensor) -> Tensor:
    # Sum over pairs of (x_a - x_b)² = n · sum of squared deviations.
    return x.size(2) * (x - x.mean(2, keepdim=True)).square().sum()


def _smooth_l1(x: Tensor) -> Tensor:
    pairs = combinations(x.unbind(2), 2)
    return sum(
        (F.smooth_l1_loss(a, b, reduction='sum') for a, b in pairs), x.new_zeros(()))


DISTANCES = dict(l1=_l1, l2=_l2, smooth_l1=_smooth_l1)


@MODELS.register_module()
class SelfConsistencyLoss(BaseModule):
    """EMAE's self-consistency (https://arxiv.org/abs/2302.14431): where two
    parts both mask a patch, their predictions are pulled together.

    The published form adds two terms a pair, each with a stop-gradient on
    one side. For an even distance their gradients add up to that of the one
    undetached distance, which is what is computed here: same training, half
    the value.

    No ``(B, K, K, N, P)`` tensor is made: the predictions of the same patch
    are put side by side, and the sum over pairs is taken in closed form.

    Args:
        weight (float): Factor of the loss. Defaults to 1.
        distance (str): ``'l1'``, ``'l2'`` or ``'smooth_l1'``.
        normalization (str): What the mean over positions runs over:
            ``'all'`` patches of the image, or the ``'overlap'``, those that
            both parts of a pair predict. Where parts predict chosen patches
            only, ``'all'`` means the chosen ones of all parts, which keeps
            the balance with the reconstruction.
        pair_reduction (str): ``'mean'`` or ``'sum'`` over pairs of parts.

    Raises:
        ValueError: If an option is unknown.
    """

    def __init__(
        self,
        weight: float = 1.,
        distance: str = 'l1',
        normalization: str = 'all',
        pair_reduction: str = 'mean',
    ) -> None:
        super().__init__()
        for name, value, known in (
            ('distance', distance, tuple(DISTANCES)),
            ('normalization', normalization, ('all', 'overlap')),
            ('pair_reduction', pair_reduction, ('mean', 'sum')),
        ):
            if value not in known:
                raise ValueError(
                    f'{name} {value!r} is unknown (SelfConsistencyLoss): choose '
                    f'from {known}')
        self.weight = weight
        self.distance = distance
        self.normalization = normalization
        self.pair_reduction = pair_reduction

    def forward(self, pred: Tensor, plan: MaskPlan) -> tuple[Tensor, Tensor]:
        """The weighted loss and the mean distance it is made of.

        Args:
            pred (Tensor): ``(B·K, P, D)``; computed in fp32.
            plan (MaskPlan): K disjoint views that predict all they do not
                see, or the chosen patches of it.

        Returns:
            tuple[Tensor, Tensor]: The loss, and the mean distance over
            overlapping patches, channels and pairs, without gradient. Both
            are 0 where no two views predict the same patch.

        Raises:
            ValueError: If the views are not disjoint parts.
        """
        batch, views = plan.num_images, plan.num_views
        channels = pred.size(-1)
        overlap = plan.pair_overlap
        num_pairs = views * (views - 1) // 2
        count = batch * num_pairs * overlap * channels
        if count == 0:
            zero = pred.new_zeros((), dtype=torch.float32)
            return zero, zero
        side_by_side = pred.float().reshape(batch, -1, channels)
        total = sum(
            DISTANCES[self.distance](
                gather_views(side_by_side, group).unflatten(0, (batch, -1)))
            for group in plan.groups_of_same_patch())
        mean = total / count
        scale = self.weight
        if self.normalization == 'all':
            scale *= overlap / plan.num_candidates
        if self.pair_reduction == 'sum':
            scale *= num_pairs
        return scale * mean, mean.detach()
