# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import math

import torch
from torch import Tensor

from mmeffmae.registry import TASK_UTILS

from .plan import MaskPlan

#: Patches on each side of a cell, of which each view sees one.
CELL = 2


def split_cells(values: Tensor) -> Tensor:
    """``(..., H, W)`` to ``(..., H/2 · W/2, 4)``: the patches of every cell.

    Cells are in row-major order, and so are the patches of a cell.
    """
    cells = values.unflatten(-1, (-1, CELL)).unflatten(-3, (-1, CELL))
    return cells.transpose(-3, -2).flatten(-2).flatten(-3, -2)


def seen_count(num_slots: int, hidden_ratio: float, owner: str) -> int:
    """``floor(V · (1 - hidden_ratio))``, the slots that are not hidden.

    Args:
        num_slots (int): Slots V.
        hidden_ratio (float): Share of the slots that is hidden, in [0, 1).
        owner (str): Who asks; named in errors.

    Raises:
        ValueError: If the encoder would see no pixel.
    """
    seen = math.floor(num_slots * (1 - hidden_ratio) + 1e-6)
    if not 1 <= seen <= num_slots:
        raise ValueError(
            f'hidden_ratio {hidden_ratio} leaves {seen} of {num_slots} visible '
            f'patches to see ({owner}): use 0 to {1 - 1 / num_slots:.3f}')
    return seen


@TASK_UTILS.register_module()
class UniformMasking:
    """One visible patch of every 2 × 2 cell, some of them hidden (UM-MAE,
    https://arxiv.org/abs/2205.10063, uniform sampling and secondary masking).

    A view's visible patches, in the order of their cells, are again an
    image, of half the side: what pyramid encoders can take. Hidden ones keep
    their place in it, but the encoder sees a learnable token there; they are
    not predicted.

    Args:
        hidden_ratio (float): Share of the visible patches that is hidden;
            the paper's secondary masking. Of V patches
            ``floor(V · (1 - hidden_ratio))`` are not. Defaults to 0.25.
        num_parts (int): K, 1 to 4 views, which share no patch.
        balanced (bool): Draw the places in the cells as the official code
            does, without replacement from twice as many, so that each of the
            four is about as frequent. Its parts are turned against each
            other by one place. By default the draws are independent.
        from_samples (bool): Take the masks of training from the field
            ``mask`` of the data samples, where
            :class:`mmeffmae.datasets.UniformMaskGenerator` puts them; what
            is hidden is drawn here all the same. ``num_parts`` and
            ``balanced`` are then the transform's, and here they matter to
            pictures only.

    Raises:
        ValueError: If there are not 1 to 4 parts.
    """

    def __init__(
        self,
        hidden_ratio: float = 0.25,
        num_parts: int = 1,
        balanced: bool = False,
        from_samples: bool = False,
    ) -> None:
        if not 1 <= num_parts <= CELL**2:
            raise ValueError(
                f'num_parts {num_parts} (UniformMasking): a cell has '
                f'{CELL**2} patches, so use 1 to {CELL**2} parts')
        seen_count(10**9, hidden_ratio, 'UniformMasking')
        self.hidden_ratio = hidden_ratio
        self.num_parts = num_parts
        self.balanced = balanced
        self.from_samples = from_samples
        self._checked = False

    @property
    def hides(self) -> bool:
        """Whether the encoder needs a token for hidden patches."""
        return self.hidden_ratio > 0

    def __call__(self, noise: Tensor) -> MaskPlan:
        """The smallest noise of each cell is visible in the first part.

        Args:
            noise (Tensor): ``(B, H, W)``, uniform, one value a patch.

        Returns:
            MaskPlan: K views of H·W/4 patches in the order of their cells,
            each predicting all others.

        Raises:
            ValueError: If the cells do not divide the grid, or nothing would
                be seen.
        """
        self.check_grid(tuple(noise.shape[1:]))
        order = self._order(noise)
        # Part k sees the k-th place of each cell and predicts the others.
        places = torch.arange(CELL**2, device=noise.device)
        turn = (places[:self.num_parts, None] + places) % CELL**2
        return self._plan(order[..., turn].transpose(1, 2), noise)

    def plan_of(self, masks: Tensor, noise: Tensor) -> MaskPlan:
        """The plan of masks that were drawn elsewhere.

        Args:
            masks (Tensor): ``(B, K, H, W)``, bool or integer; 0 where a
                patch is visible, once in every cell.
            noise (Tensor): ``(B, H, W)``, uniform; draws what is hidden.

        Returns:
            MaskPlan: K views.

        Raises:
            ValueError: If the masks are not of that kind.
        """
        if masks.dim() != 4 or masks.shape[2:] != noise.shape[1:]:
            raise ValueError(
                f'masks of {tuple(masks.shape)} for {len(noise)} images on a '
                f'grid of {tuple(noise.shape[1:])} patches (UniformMasking): '
                'give UniformMaskGenerator that grid')
        self.check_grid(tuple(noise.shape[1:]))
        cells = split_cells(masks != 0)
        # A wrong generator is wrong at once; later a look would stall the GPU.
        if not self._checked and not (cells.sum(-1) == CELL**2 - 1).all():
            raise ValueError(
                'a mask of the data samples leaves not exactly one patch of a '
                f'{CELL}x{CELL} cell visible (UniformMasking): draw the masks '
                'with UniformMaskGenerator')
        self._checked = True
        return self._plan(cells.byte().argsort(dim=-1), noise)

    @staticmethod
    def check_grid(grid: tuple[int, ...]) -> None:
        """Refuse rows and columns of patches that cells do not divide."""
        if grid[0] % CELL or grid[1] % CELL:
            raise ValueError(
                f'a grid of {grid} patches cannot be cut into {CELL}x{CELL} '
                'cells (UniformMasking): use images of an even number of '
                'patches a side')

    def _order(self, noise: Tensor) -> Tensor:
        """``(B, V, 4)``: the place of each cell that each part sees."""
        if not self.balanced:
            return split_cells(noise).argsort(dim=-1)
        noise = noise.flatten(1)
        # The official pool: rows of four until twice the patches are there.
        pool = CELL**2 * math.ceil(noise.size(1) / (2 * CELL**2))
        drawn = noise[:, :pool].argsort(dim=1)[:, :noise.size(1) // CELL**2]
        return (drawn[..., None] + torch.arange(
            CELL**2, device=noise.device)) % CELL**2

    def _plan(self, order: Tensor, noise: Tensor) -> MaskPlan:
        """``order`` is ``(B, K, V, 4)``: a cell's visible place, the others."""
        grid = tuple(noise.shape[1:])
        patches = torch.arange(
            grid[0] * grid[1], device=noise.device).view(grid)
        ids = split_cells(patches).expand_as(order).gather(-1, order)
        keep = ids[..., 0]
        return MaskPlan(
            keep,
            ids[..., 1:].flatten(2),
            grid,
            hidden=self._hidden(keep, noise) if self.hides else None,
            cell=CELL)

    def _hidden(self, ids_keep: Tensor, noise: Tensor) -> Tensor:
        # The low bits of the noise know nothing of the high ones, which chose
        # the places, so parts do not hide the same cells.
        score = (noise * 4096).frac().flatten(1).unsqueeze(1)
        score = score.expand(-1, ids_keep.size(1), -1).gather(-1, ids_keep)
        seen = seen_count(ids_keep.size(-1), self.hidden_ratio, 'UniformMasking')
        first = score.argsort(dim=-1, stable=True)[..., :seen]
        hidden = torch.ones_like(ids_keep, dtype=torch.bool)
        return hidden.scatter(-1, first, False)
