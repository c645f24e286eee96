# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from typing import Optional

import torch
from torch import Tensor

from mmeffmae.registry import TASK_UTILS

from .counts import visible_count
from .plan import MaskPlan


def disjoint_parts_size(
    num_patches: int, num_parts: int, mask_ratio: Optional[float], owner: str
) -> int:
    """Visible patches of each of ``num_parts`` disjoint parts.

    Args:
        num_patches (int): N.
        num_parts (int): K.
        mask_ratio (float, optional): Share that is masked in every part;
            None gives every part ``N // K`` patches.
        owner (str): Who asks; named in errors.

    Raises:
        ValueError: If a part would be empty or the parts do not fit.
    """
    if mask_ratio is None:
        if not 1 < num_parts <= num_patches:
            raise ValueError(
                f'num_parts {num_parts} of {num_patches} patches ({owner}) '
                'leaves a part without a visible or without a masked patch: '
                f'use 2 to {num_patches} parts, or give mask_ratio')
        return num_patches // num_parts
    visible = visible_count(num_patches, mask_ratio, owner)
    if num_parts < 1 or num_parts * visible > num_patches:
        raise ValueError(
            f'num_parts {num_parts} of {visible} visible patches each '
            f'(mask_ratio {mask_ratio}) do not fit into {num_patches} patches '
            f'({owner}): use 1 to {num_patches // visible} parts, or a higher '
            'mask_ratio')
    return visible


@TASK_UTILS.register_module()
class ParallelMasking:
    """K disjoint visible parts of an image (EMAE,
    https://arxiv.org/abs/2302.14431).

    One random permutation is cut into K slices of V patches; part k sees
    slice k and predicts everything else. Patches that are left over
    (N - K·V) are visible in no part and predicted by all. With one part this
    is :class:`RandomMasking`, to the bit.

    Args:
        num_parts (int): K. Defaults to 4.
        mask_ratio (float, optional): Share that is masked in every part.
            None means ``1 - (N // K) / N``: all patches are used.
    """

    def __init__(self, num_parts: int = 4, mask_ratio: Optional[float] = None) -> None:
        self.num_parts = num_parts
        self.mask_ratio = mask_ratio

    def __call__(self, noise: Tensor) -> MaskPlan:
        """Cut the permutation that sorts the noise.

        Args:
            noise (Tensor): ``(B, H, W)``, uniform, one value a patch.

        Returns:
            MaskPlan: K views, each predicting all patches it does not see.

        Raises:
            ValueError: If a part would be empty or the parts do not fit.
        """
        order = noise.flatten(1).argsort(dim=1)
        num = order.size(1)
        visible = disjoint_parts_size(
            num, self.num_parts, self.mask_ratio, 'ParallelMasking')
        # Part k reads the permutation from its own slice on, around the end.
        start = visible * torch.arange(self.num_parts, device=noise.device)
        turn = (start[:, None] + torch.arange(num, device=noise.device)) % num
        order = order[:, turn]
        return MaskPlan(
            order[..., :visible], order[..., visible:], tuple(noise.shape[1:]))
