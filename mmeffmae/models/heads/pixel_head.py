# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from typing import Optional

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from mmeffmae.masking import MaskPlan, gather_views, replace_tokens
from mmeffmae.registry import MODELS

#: Added to the variance of a patch.
_EPS = 1e-6


@MODELS.register_module()
class PixelHead(BaseModule):
    """Reconstruction of the pixels of predicted patches (MAE, arXiv
    2111.06377, §3), with EMAE's self-consistency as an extra term.

    Every view predicts the same number of patches, so the mean over all of
    them is the mean over views of MAE's loss.

    Args:
        patch_size (int): Side of a patch, in pixels.
        in_channels (int): Channels of the images.
        norm_pix (bool): Whether a patch's target is normalised by its own
            mean and unbiased variance. Defaults to True.
        loss (dict): Called as ``loss(pred, target)``. Defaults to
            mmpretrain's ``PixelReconstructionLoss`` with ``L2``.
        consistency (dict, optional): A :class:`SelfConsistencyLoss`.
    """

    def __init__(
        self,
        patch_size: int = 16,
        in_channels: int = 3,
        norm_pix: bool = True,
        loss: Optional[dict] = None,
        consistency: Optional[dict] = None,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.in_channels = in_channels
        self.norm_pix = norm_pix
        self.loss_module = MODELS.build(
            loss or dict(type='mmpretrain.PixelReconstructionLoss', criterion='L2'))
        self.consistency = None if consistency is None else MODELS.build(consistency)

    def patchify(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, N, p·p·C)``, channels last in a patch."""
        p = self.patch_size
        patches = images.unfold(2, p, p).unfold(3, p, p)
        return patches.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)

    def unpatchify(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """``(B, N, p·p·C)`` to ``(B, C, H, W)``; undoes :meth:`patchify`."""
        p = self.patch_size
        patches = patches.reshape(len(patches), *grid, p, p, self.in_channels)
        return patches.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    @staticmethod
    def _statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
        var, mean = torch.var_mean(patches, dim=-1, keepdim=True)
        return mean, (var + _EPS).sqrt()

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        """What each patch should look like: ``(B, N, p·p·C)``, fp32."""
        patches = self.patchify(images.float())
        if not self.norm_pix:
            return patches
        # One pass; it divides by the biased deviation, MAE by the unbiased one.
        num = patches.size(-1)
        biased = (num - 1) / num
        return F.layer_norm(patches, (num, ), eps=_EPS * biased) * biased**0.5

    def loss(
        self, pred: Tensor, images: Tensor, plan: MaskPlan
    ) -> dict[str, Tensor]:
        """All terms, in fp32.

        Args:
            pred (Tensor): ``(B·K, P, p·p·C)``.
            images (Tensor): ``(B, C, H, W)``, as the encoder saw them.
            plan (MaskPlan): K views of each image.

        Returns:
            dict[str, Tensor]: ``loss_recon``; with a consistency also
            ``loss_cons`` and ``consistency``, its mean distance.
        """
        pred = pred.float()
        target = gather_views(self.target(images), plan.ids_predict)
        losses = dict(loss_recon=self.loss_module(pred, target))
        if self.consistency is not None:
            cons, distance = self.consistency(pred, plan)
            losses.update(loss_cons=cons, consistency=distance)
        return losses

    @torch.no_grad()
    def paint(self, pred: Tensor, images: Tensor, plan: MaskPlan) -> Tensor:
        """The images with predicted patches in place of the originals.

        A per-patch normalised prediction gets the mean and variance of the
        original patch back; it has none of its own.

        Args:
            pred (Tensor): ``(B·K, P, p·p·C)``.
            images (Tensor): ``(B, C, H, W)``, as the encoder saw them.
            plan (MaskPlan): K views of each image.

        Returns:
            Tensor: ``(B, K, C, H, W)``, fp32, in the space of ``images``.
        """
        patches = self.patchify(images.float())
        pred = pred.float()
        if self.norm_pix:
            mean, std = self._statistics(patches)
            pred = pred * gather_views(std, plan.ids_predict)
            pred = pred + gather_views(mean, plan.ids_predict)
        painted = replace_tokens(patches, plan.ids_predict, pred)
        painted = self.unpatchify(painted, plan.grid)
        return painted.unflatten(0, (plan.num_images, plan.num_views))
