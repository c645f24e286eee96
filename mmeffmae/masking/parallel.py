# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import math
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
        num_patches (int): Patches N.
        num_parts (int): Parts K.
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

    With ``decode_ratio`` below 1, an option of ours that the paper does not
    have, a share of every part is chosen, and part k predicts the chosen
    patches of the other parts alone, ``(K - 1)·q`` of them: every two parts
    still predict ``(K - 2)·q`` patches in common. Left-over patches are then
    not predicted.

    Args:
        num_parts (int): Parts K. Defaults to 4.
        mask_ratio (float, optional): Share that is masked in every part.
            None means ``1 - (N // K) / N``: all patches are used.
        decode_ratio (float): Share of each part's patches that the other
            parts predict, ``q = floor(V · decode_ratio)`` and at least one
            patch. Defaults to 1, all masked patches.

    Raises:
        ValueError: If the decode ratio is not in (0, 1], or below 1 with one
            part.
    """

    def __init__(
        self,
        num_parts: int = 4,
        mask_ratio: Optional[float] = None,
        decode_ratio: float = 1.,
    ) -> None:
        if not 0 < decode_ratio <= 1:
            raise ValueError(
                f'decode_ratio {decode_ratio} (ParallelMasking): use a share '
                'above 0 and up to 1')
        if decode_ratio < 1 and num_parts == 1:
            raise ValueError(
                f'decode_ratio {decode_ratio} with num_parts 1 '
                '(ParallelMasking): a part predicts chosen patches of the other '
                'parts, so use two parts or more, or decode_ratio 1')
        self.num_parts = num_parts
        self.mask_ratio = mask_ratio
        self.decode_ratio = decode_ratio

    def __call__(self, noise: Tensor) -> MaskPlan:
        """Cut the permutation that sorts the noise.

        Args:
            noise (Tensor): ``(B, H, W)``, uniform, one value a patch.

        Returns:
            MaskPlan: K views, each predicting the patches it does not see, or
            the chosen ones of them.

        Raises:
            ValueError: If a part would be empty or the parts do not fit.
        """
        order = noise.flatten(1).argsort(dim=1)
        num = order.size(1)
        visible = disjoint_parts_size(
            num, self.num_parts, self.mask_ratio, 'ParallelMasking')
        used = num if self.decode_ratio == 1 else self.num_parts * visible
        # Part k reads the permutation from its own slice on, around the end.
        start = visible * torch.arange(self.num_parts, device=noise.device)
        turn = (start[:, None] + torch.arange(used, device=noise.device)) % used
        keep, masked = order[:, turn].tensor_split([visible], dim=-1)
        plan = MaskPlan(keep, masked, tuple(noise.shape[1:]))
        if self.decode_ratio == 1:
            return plan
        chosen = max(1, math.floor(visible * self.decode_ratio + 1e-6))
        others = masked.unflatten(-1, (self.num_parts - 1, visible))
        return plan._replace(
            ids_predict=others[..., :chosen].flatten(2), chosen_per_part=chosen)
