# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
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
    """

    def __init__(self, mask_ratio: float = 0.75) -> None:
        self.mask_ratio = mask_ratio

    def __call__(self, noise: Tensor) -> MaskPlan:
        """The patches of smallest noise are visible.

        Args:
            noise (Tensor): ``(B, H, W)``, uniform, one value a patch.

        Returns:
            MaskPlan: One view, which predicts all masked patches.

        Raises:
            ValueError: If nothing would be visible or nothing masked.
        """
        order = noise.flatten(1).argsort(dim=1).unsqueeze(1)
        visible = visible_count(order.size(-1), self.mask_ratio, 'RandomMasking')
        return MaskPlan(
            order[..., :visible], order[..., visible:], tuple(noise.shape[1:]))
