# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffmae.masking import MaskPlan, gather_tokens
from mmeffmae.registry import MODELS

from ..layers import expand_slots


@MODELS.register_module()
class SimMIMDecoder(BaseModule):
    """SimMIM's prediction head for pyramid encoders (arXiv 2111.09886, §3.3):
    one linear map from the last token of 2 × 2 patches to their pixels.

    Args:
        embed_dim (int): Width of the encoder.
        patch_size (int): Side of a patch, in pixels.
        in_chans (int): Channels of the images.
        grid (tuple[int, int], optional): Not needed; any grid will do.
        init_cfg (dict, optional): See ``mmengine.model.BaseModule``.
    """

    def __init__(
        self,
        embed_dim: int = 768,
        patch_size: int = 16,
        in_chans: int = 3,
        grid: object = None,
        init_cfg: object = None,
    ) -> None:
        super().__init__(init_cfg)
        self.decoder_pred = nn.Linear(embed_dim, 4 * patch_size**2 * in_chans)

    def forward(self, tokens: Tensor, plan: MaskPlan) -> Tensor:
        """Predict the patches of ``plan.ids_predict``.

        Args:
            tokens (Tensor): ``(B·K, N/4, embed_dim)`` of the encoder.
            plan (MaskPlan): K views of whole images.

        Returns:
            Tensor: ``(B·K, P, patch_size² · in_chans)``.

        Raises:
            ValueError: If the encoder did not see the whole image.
        """
        if plan.cell != 1:
            raise ValueError(
                'the encoder saw visible patches only, and SimMIMDecoder predicts '
                'from tokens of all: use WholeImageMasking, or another neck')
        pixels = expand_slots(self.decoder_pred(tokens), plan, 'SimMIMDecoder')
        return gather_tokens(pixels, plan.ids_predict.flatten(0, 1))
