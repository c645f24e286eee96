# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The mask plan, and every gather and scatter of patch indices.

Shapes: ``B`` images, ``K`` views of each, ``N`` patches of an image in
row-major order, ``V`` visible and ``P`` predicted patches of a view. Views
are folded into the batch as row ``b * K + k``.
"""
from typing import NamedTuple, Optional

import torch
from torch import Tensor


def gather_views(tokens: Tensor, ids: Tensor) -> Tensor:
    """Gather each view's tokens from the tokens of its image.

    Args:
        tokens (Tensor): ``(B, N, C)``, one row of tokens an image.
        ids (Tensor): ``(B, K, M)``, int64, patch indices of every view.

    Returns:
        Tensor: ``(B·K, M, C)``.
    """
    batch, views, num = ids.shape
    # Copies whole rows, where a gather looks up every element.
    taken = gather_tokens(tokens, ids.reshape(batch, views * num))
    return taken.reshape(batch * views, num, -1)


def gather_table(table: Tensor, ids: Tensor) -> Tensor:
    """Gather rows of a table that all images share, such as positions.

    Args:
        table (Tensor): ``(N, C)``.
        ids (Tensor): ``(B, K, M)``, int64, patch indices of every view.

    Returns:
        Tensor: ``(B·K, M, C)``.
    """
    return table[ids.flatten(0, 1)]


def gather_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """Take tokens of some patches out of each row; undoes the scatter.

    Args:
        tokens (Tensor): ``(R, N, C)``.
        ids (Tensor): ``(R, M)``, int64.

    Returns:
        Tensor: ``(R, M, C)``.
    """
    rows = torch.arange(tokens.size(0), device=ids.device).unsqueeze(1)
    return tokens[rows, ids]


def scatter_tokens(tokens: Tensor, ids: Tensor, num_patches: int) -> Tensor:
    """Put tokens back at their patches; patches that get none are zero.

    Args:
        tokens (Tensor): ``(R, M, C)``.
        ids (Tensor): ``(R, M)``, int64, distinct in every row.
        num_patches (int): Patches N.

    Returns:
        Tensor: ``(R, N, C)``.
    """
    blank = tokens.new_zeros(tokens.size(0), num_patches, tokens.size(-1))
    # Copies whole rows, in a quarter of the time of a scatter.
    rows = torch.arange(tokens.size(0), device=ids.device).unsqueeze(1)
    return blank.index_put_((rows, ids), tokens)


def replace_tokens(tokens: Tensor, ids: Tensor, values: Tensor) -> Tensor:
    """The tokens of every image, with other values at some patches of a view.

    Args:
        tokens (Tensor): ``(B, N, C)``, one row of tokens an image.
        ids (Tensor): ``(B, K, M)``, int64, distinct in every view.
        values (Tensor): ``(B·K, M, C)``, what stands there instead.

    Returns:
        Tensor: ``(B·K, N, C)``.
    """
    copies = tokens.repeat_interleave(ids.size(1), dim=0)
    index = ids.flatten(0, 1).unsqueeze(-1).expand(-1, -1, tokens.size(-1))
    return copies.scatter(1, index, values.to(tokens.dtype))


def _mark(ids: Tensor, num_patches: int) -> Tensor:
    marks = torch.zeros(
        *ids.shape[:-1], num_patches, dtype=torch.bool, device=ids.device)
    return marks.scatter(-1, ids, True)


class MaskPlan(NamedTuple):
    """What every view of a batch of images sees and has to predict.

    The one value that passes from masking to encoder, decoder and head.

    Attributes:
        ids_keep (Tensor): ``(B, K, V)``, int64. Patch index of every visible
            token, in the encoder's order.
        ids_predict (Tensor): ``(B, K, P)``, int64. Patches that the decoder
            predicts: all masked ones, or a share of them.
        grid (tuple[int, int]): Rows and columns of patches, N in product.
        hidden (Tensor, optional): ``(B, K, V)``, bool. Visible slots that
            the encoder sees as a learnable token.
        chosen_per_part (int, optional): q, if the views are disjoint parts
            of which each predicts the same q chosen patches of every other
            one; None if each view predicts all that it does not see, or if
            the views are no such parts.
        cell (int, optional): Side of the square cells of patches of which a
            view sees exactly one each, in the order of the cells (row-major);
            1 if it sees all patches. None if the visible patches lie on no
            such grid.
    """

    ids_keep: Tensor
    ids_predict: Tensor
    grid: tuple[int, int]
    hidden: Optional[Tensor] = None
    chosen_per_part: Optional[int] = None
    cell: Optional[int] = None

    @property
    def num_images(self) -> int:
        """Images B."""
        return self.ids_keep.size(0)

    @property
    def num_views(self) -> int:
        """Views K."""
        return self.ids_keep.size(1)

    @property
    def num_patches(self) -> int:
        """Patches N."""
        return self.grid[0] * self.grid[1]

    @property
    def visible(self) -> Tensor:
        """``(B, K, N)``, bool: patches whose pixels the encoder may read."""
        return _mark(self.ids_keep, self.num_patches)

    @property
    def mask(self) -> Tensor:
        """``(B, K, N)``, bool: patches that are predicted."""
        return _mark(self.ids_predict, self.num_patches)

    @property
    def ids_restore(self) -> Tensor:
        """``(B, K, N)``, int64: order in which ``[visible, predicted]``
        tokens have to be gathered to stand at their patches.

        Raises:
            ValueError: If the plan does not predict every masked patch.
        """
        order = torch.cat([self.ids_keep, self.ids_predict], dim=-1)
        if order.size(-1) != self.num_patches:
            raise ValueError(
                f'{self.ids_keep.size(-1)} visible and '
                f'{self.ids_predict.size(-1)} predicted patches do not make '
                f'the {self.num_patches} of the grid {self.grid} '
                '(MaskPlan.ids_restore): only a plan that predicts every '
                'masked patch can be restored')
        return order.argsort(dim=-1)

    def with_predict(self, ids_predict: Tensor) -> 'MaskPlan':
        """The same views with other patches to predict, ``(B, K, P)``."""
        return self._replace(ids_predict=ids_predict, chosen_per_part=None)

    @property
    def num_candidates(self) -> int:
        """Patches of an image that views predict: N, or the K·q chosen.

        Assumes disjoint parts, as :meth:`groups_of_same_patch` does.
        """
        if self.chosen_per_part is None:
            return self.num_patches
        return self.num_views * self.chosen_per_part

    @property
    def pair_overlap(self) -> int:
        """Patches that any two views both predict: N - 2V, or (K - 2)·q.

        Assumes disjoint parts, as :meth:`groups_of_same_patch` does.
        """
        own = self.chosen_per_part or self.ids_keep.size(-1)
        return self.num_candidates - 2 * own

    def groups_of_same_patch(self) -> list[Tensor]:
        """Where views predict the same patch.

        Assumes disjoint views, of which each predicts all patches that it
        does not see, or the chosen ones of them: a patch that one view sees
        is predicted by the K - 1 others, a patch that none sees (left over)
        by all K.

        Returns:
            list[Tensor]: One or two tensors ``(B, M, n)``, int64: positions
            in the flattened ``K·P`` predictions of an image, ``n`` of the
            same patch in a row; first for the patches with n = K - 1, then,
            if there are any, for the left-over ones with n = K.

        Raises:
            ValueError: If the plan is not of that kind.
        """
        batch, views, visible = self.ids_keep.shape
        own = self.chosen_per_part or visible
        left_over = self.num_candidates - views * own
        if left_over < 0 or self.ids_predict.size(-1) != self.num_candidates - own:
            raise ValueError(
                f'{views} views of {visible} visible and '
                f'{self.ids_predict.size(-1)} predicted patches on the grid '
                f'{self.grid} are not disjoint parts that each predict the '
                'rest (MaskPlan.groups_of_same_patch): draw them with '
                'ParallelMasking')
        predicted = self.ids_predict.flatten(1)
        seen = _mark(self.ids_keep.flatten(1), self.num_patches)
        # Left-over patches sort behind all others.
        rank = predicted + self.num_patches * ~seen.gather(1, predicted)
        order = rank.argsort(dim=1, stable=True)
        split = (predicted.size(1) - views * left_over, views * left_over)
        common, rest = order.split(split, dim=1)
        groups = [common.reshape(batch, views * own, views - 1)]
        if left_over:
            groups.append(rest.reshape(batch, left_over, views))
        return groups
