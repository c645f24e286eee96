# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Stems of MaskedViT: what turns pixels into patch tokens.

A stem is called with images and returns ``(tokens (B, N, C), grid)``, as
mmpretrain's ``PatchEmbed`` does, has ``init_out_size``, and offers
``embed_visible(images, plan)``, which may read visible pixels only.
"""
from mmcv.cnn.bricks.transformer import PatchEmbed
from torch import Tensor
from torch.nn import functional as F

from mmeffmae.masking import MaskPlan, gather_views
from mmeffmae.registry import MODELS

from .decorrelated import project_fields


@MODELS.register_module()
class PatchifyStem(PatchEmbed):
    """MAE's patch embedding: one linear map of every patch.

    Args:
        patch_size (int): Side of a patch, in pixels.
        **kwargs: Of ``mmcv.cnn.bricks.transformer.PatchEmbed``.
    """

    def __init__(self, patch_size: int, **kwargs) -> None:
        super().__init__(
            conv_type='Conv2d', kernel_size=patch_size, stride=patch_size, **kwargs)
        self.patch_size = patch_size

    def embed_visible(self, images: Tensor, plan: MaskPlan) -> Tensor:
        """Embed the visible patches of every view, and no others.

        Args:
            images (Tensor): ``(B, C, H, W)``.
            plan (MaskPlan): K views of each image.

        Returns:
            Tensor: ``(B·K, V, embed_dims)``.
        """
        pixels = F.pixel_unshuffle(images, self.patch_size)
        pixels = gather_views(pixels.flatten(2).transpose(1, 2), plan.ids_keep)
        return project_fields(self.projection, pixels)
