# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from typing import Union

import torch
from mmcv.transforms import BaseTransform

from mmeffmae.masking import UniformMasking
from mmeffmae.registry import TRANSFORMS


@TRANSFORMS.register_module()
class UniformMaskGenerator(BaseTransform):
    """Draw :class:`mmeffmae.masking.UniformMasking`'s masks in the pipeline,
    before ``PackInputs``, as UM-MAE's official code does.

    Every worker draws from torch's generator, which ``SeedSample`` seeds.
    The algorithm takes the masks if its masking has ``from_samples=True``,
    and draws what is hidden itself.

    Added Keys: mask (``(K, rows, cols)`` bool tensor, True where a patch is
    not visible)

    Args:
        grid (int | tuple[int, int]): Rows and columns of patches.
        num_parts (int): Views K.
        balanced (bool): See :class:`mmeffmae.masking.UniformMasking`.

    Raises:
        ValueError: If 2 × 2 cells do not divide the grid.
    """

    def __init__(
        self,
        grid: Union[int, tuple[int, int]],
        num_parts: int = 1,
        balanced: bool = False,
    ) -> None:
        self.grid = (grid, grid) if isinstance(grid, int) else tuple(grid)
        self.masking = UniformMasking(0, num_parts, balanced)
        self.masking.check_grid(self.grid)

    def transform(self, results: dict) -> dict:
        """Add ``mask`` to the results."""
        plan = self.masking(torch.rand(1, *self.grid))
        results['mask'] = ~plan.visible[0].unflatten(-1, self.grid)
        return results
