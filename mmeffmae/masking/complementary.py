# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from torch import Tensor

from mmeffmae.registry import TASK_UTILS

from .parallel import disjoint_parts_size
from .plan import MaskPlan


@TASK_UTILS.register_module()
class ComplementaryMasking:
    """Disjoint student views and the complement of their union (PCAE, ICLR
    2023, figure "framework").

    ``ids_keep`` is what the students see, ``ids_predict`` the complement of
    all of them, the same for every view: what a teacher encodes. With one
    part this is :class:`RandomMasking`.

    Args:
        num_parts (int): Student views K. Defaults to 1.
        mask_ratio (float): Share that is masked in every student view.
            Defaults to 0.75.
    """

    def __init__(self, num_parts: int = 1, mask_ratio: float = 0.75) -> None:
        self.num_parts = num_parts
        self.mask_ratio = mask_ratio

    def __call__(self, noise: Tensor) -> MaskPlan:
        """Split the permutation that sorts the noise.

        Args:
            noise (Tensor): ``(B, H, W)``, uniform, one value a patch.

        Returns:
            MaskPlan: K student views; ``ids_predict`` is ``(B, K, N - K·V)``.

        Raises:
            ValueError: If the parts do not fit or leave no complement.
        """
        order = noise.flatten(1).argsort(dim=1)
        visible = disjoint_parts_size(
            order.size(1), self.num_parts, self.mask_ratio, 'ComplementaryMasking')
        used = self.num_parts * visible
        if used == order.size(1):
            raise ValueError(
                f'num_parts {self.num_parts} at mask_ratio {self.mask_ratio} '
                f'use all {used} patches (ComplementaryMasking), so the '
                'complement is empty: use fewer parts or a higher mask_ratio')
        keep = order[:, :used].unflatten(1, (self.num_parts, visible))
        rest = order[:, None, used:].expand(-1, self.num_parts, -1)
        return MaskPlan(keep, rest, tuple(noise.shape[1:]))
