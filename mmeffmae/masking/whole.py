# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import torch
from torch import Tensor

from mmeffmae.registry import TASK_UTILS

from .counts import visible_count
from .plan import MaskPlan


@TASK_UTILS.register_module()
class WholeImageMasking:
    """All patches go through the encoder, masked ones as a learnable token
    (SimMIM, https://arxiv.org/abs/2111.09886, §3).

    What UM-MAE is measured against: the encoder has to work on the whole
    image.

    Args:
        mask_ratio (float): Share of the patches that is hidden and
            predicted. Defaults to 0.75, UM-MAE's; SimMIM has 0.6.
    """

    hides = True

    def __init__(self, mask_ratio: float = 0.75) -> None:
        self.mask_ratio = mask_ratio

    def __call__(self, noise: Tensor) -> MaskPlan:
        """The patches of smallest noise are seen.

        Args:
            noise (Tensor): ``(B, H, W)``, uniform, one value a patch.

        Returns:
            MaskPlan: One view of all H·W patches in row-major order.

        Raises:
            ValueError: If nothing would be seen or nothing predicted.
        """
        order = noise.flatten(1).argsort(dim=1).unsqueeze(1)
        seen = visible_count(order.size(-1), self.mask_ratio, 'WholeImageMasking')
        hidden = torch.ones_like(order, dtype=torch.bool)
        return MaskPlan(
            torch.arange(order.size(-1), device=noise.device).expand_as(order),
            order[..., seen:],
            tuple(noise.shape[1:]),
            hidden=hidden.scatter(-1, order[..., :seen], False),
            cell=1)
