# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import math

from torch import Tensor

from mmeffmae.registry import TASK_UTILS

from .counts import visible_count
from .plan import MaskPlan


@TASK_UTILS.register_module()
class RandomMasking:
    """Uniformly random masks (MAE, https://arxiv.org/abs/2111.06377, §3).

    Args:
        mask_ratio (float): Share of the patches that is masked.
            Defaults to 0.75.
        decode_ratio (float): Share of the masked patches that is predicted,
            a random one, at least one patch; an option of ours that makes
            the decoder cheaper. Defaults to 1, all of them.

    Raises:
        ValueError: If the decode ratio is not in (0, 1].
    """

    def __init__(self, mask_ratio: float = 0.75, decode_ratio: float = 1.) -> None:
        if not 0 < decode_ratio <= 1:
            raise ValueError(
                f'decode_ratio {decode_ratio} (RandomMasking): use a share '
                'above 0 and up to 1')
        self.mask_ratio = mask_ratio
        self.decode_ratio = decode_ratio

    def __call__(self, noise: Tensor) -> MaskPlan:
        """The patches of smallest noise are visible.

        Args:
            noise (Tensor): ``(B, H, W)``, uniform, one value a patch.

        Returns:
            MaskPlan: One view, which predicts the masked patches or, of
            these, the chosen ones.

        Raises:
            ValueError: If nothing would be visible or nothing masked.
        """
        order = noise.flatten(1).argsort(dim=1).unsqueeze(1)
        visible = visible_count(order.size(-1), self.mask_ratio, 'RandomMasking')
        masked = order.size(-1) - visible
        chosen = max(1, math.floor(masked * self.decode_ratio + 1e-6))
        return MaskPlan(
            order[..., :visible], order[..., visible:visible + chosen],
            tuple(noise.shape[1:]))
