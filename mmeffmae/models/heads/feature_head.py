# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from typing import Optional

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from mmeffmae.masking import MaskPlan
from mmeffmae.registry import MODELS


@torch.no_grad()
def pairwise_cosines(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cosine of two tokens of an image, and of two of different images.

    Both near 1 mean that the tokens have collapsed to one. Where there is no
    such pair the value is 0.

    Args:
        tokens (Tensor): ``(B, R, C)``.
    """
    images, num = tokens.shape[:2]
    # The sum over pairs is the square of the sum, less each with itself.
    sums = F.normalize(tokens, dim=-1).sum(dim=1)
    squares = sums.square().sum(dim=-1)
    within = (squares.mean() - num) / max(1, num * (num - 1))
    pairs = images * (images - 1) * num**2
    across = (sums.sum(dim=0).square().sum() - squares.sum()) / max(1, pairs)
    return (within if num > 1 else 0 * within,
            across if images > 1 else 0 * across)


@MODELS.register_module()
class FeatureHead(BaseModule):
    """Prediction of a teacher's features at chosen patches (PCAE, ICLR 2023,
    figure of the method; what it does not tell follows the public code).

    Args:
        loss (dict, optional): Called as ``loss(pred, target)``. Defaults to
            mmpretrain's ``CosineSimilarityLoss``, one minus the mean cosine.
    """

    def __init__(self, loss: Optional[dict] = None) -> None:
        super().__init__()
        self.loss_module = MODELS.build(
            loss or dict(
                type='mmpretrain.CosineSimilarityLoss',
                shift_factor=1.,
                scale_factor=1.))

    @torch.no_grad()
    def target(self, features: Tensor) -> Tensor:
        """Each token to mean 0 and (unbiased) variance 1, in fp32."""
        features = features.float()
        var, mean = torch.var_mean(features, dim=-1, keepdim=True)
        return (features - mean) / (var + 1e-6).sqrt()

    def loss(
        self, pred: Tensor, features: Tensor, plan: MaskPlan
    ) -> dict[str, Tensor]:
        """The loss in fp32, and what tells a collapse.

        Args:
            pred (Tensor): ``(B·K, R, C)``.
            features (Tensor): ``(B, R, C)``, the teacher's, the same for the
                K views of an image.
            plan (MaskPlan): K views of each image.

        Returns:
            dict[str, Tensor]: ``loss_feat``; ``target_cos_image`` and
            ``target_cos_batch``, see :func:`pairwise_cosines`, which near 1
            say that a small loss means nothing.
        """
        target = self.target(features)
        pred = pred.float().unflatten(0, (plan.num_images, plan.num_views))
        within, across = pairwise_cosines(target)
        return dict(
            loss_feat=self.loss_module(pred, target.unsqueeze(1)),
            target_cos_image=within,
            target_cos_batch=across)
