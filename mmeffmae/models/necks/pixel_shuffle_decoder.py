# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from torch import Tensor, nn

from mmeffmae.masking import MaskPlan, gather_table
from mmeffmae.registry import MODELS

from ..layers import expand_slots
from .masked_decoder import MaskedDecoder


@MODELS.register_module()
class PixelShuffleDecoder(MaskedDecoder):
    """MAE's decoder for pyramid encoders (UM-MAE, arXiv 2205.10063).

    Their last map has one token for 2 × 2 slots; a linear map and a pixel
    shuffle make four of it, one for each visible patch, in the order of the
    cells. Depth and width are free: the paper has 2 × 512 (8 × 512 for
    Swin-L), and 1 × 256 costs next to nothing.

    Args:
        legacy_visible_pe_order (bool): Give the visible tokens the positions
            of the visible patches in row-major order, as the official code
            does. Three quarters of them then get another patch's. Only for
            its pre-training checkpoints. Defaults to False, each its own.
        **kwargs: Of :class:`MaskedDecoder`.
    """

    def __init__(self, legacy_visible_pe_order: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.legacy_visible_pe_order = legacy_visible_pe_order
        embed = self.decoder_embed
        self.decoder_embed = nn.Linear(embed.in_features, 4 * embed.out_features)

    def embed_visible(self, tokens: Tensor, table: Tensor, plan: MaskPlan) -> Tensor:
        """One token for each visible patch, with its position.

        Args:
            tokens (Tensor): ``(B·K, V/4, embed_dim)``.
            table (Tensor): ``(1, 1 + N, decoder_embed_dim)``, positions.
            plan (MaskPlan): K views with a ``cell``.

        Returns:
            Tensor: ``(B·K, V, decoder_embed_dim)``.

        Raises:
            ValueError: If the encoder gave other tokens than one for 2 × 2
                slots.
        """
        ids = plan.ids_keep
        if self.legacy_visible_pe_order:
            ids = ids.sort(dim=-1).values
        expanded = expand_slots(self.decoder_embed(tokens), plan, type(self).__name__)
        return expanded + gather_table(table[0, 1:], ids)
