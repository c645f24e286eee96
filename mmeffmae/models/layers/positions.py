# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from mmpretrain.models.utils import build_2d_sincos_position_embedding, resize_pos_embed
from torch import Tensor
from torch.nn import functional as F


def sincos_positions(
    grid: tuple[int, int], embed_dims: int, cls_token: bool
) -> Tensor:
    """MAE's fixed 2-D sine-cosine table, on any grid.

    mmpretrain's function walks its grid column by column; handed the
    transposed grid it fills the rows in row-major order, and equals
    mmpretrain's own tables on square ones.

    Args:
        grid (tuple[int, int]): Rows and columns.
        embed_dims (int): Channels, a multiple of 4.
        cls_token (bool): Whether a row of zeros comes first.

    Returns:
        Tensor: ``(1, [1 +] N, embed_dims)``, float32.

    Raises:
        ValueError: ``embed_dims`` is no multiple of 4.
    """
    if embed_dims % 4:
        raise ValueError(f'embed_dims {embed_dims} is no multiple of 4, which '
                         'sine-cosine positions need')
    return build_2d_sincos_position_embedding(
        grid[::-1], embed_dims, cls_token=cls_token)


def resize_positions(
    table: Tensor,
    source: tuple[int, int],
    target: tuple[int, int],
    num_extra_tokens: int = 1,
    mode: str = 'bicubic',
) -> Tensor:
    """A position table on another grid; the table itself on the same one.

    Args:
        table (Tensor): ``(1, num_extra_tokens + N, C)``.
        source (tuple[int, int]): Rows and columns of the table.
        target (tuple[int, int]): Rows and columns that are wanted.
        num_extra_tokens (int): Leading rows that are kept as they are.
        mode (str): Interpolation.

    Returns:
        Tensor: ``(1, num_extra_tokens + N', C)``.
    """
    return resize_pos_embed(
        table, tuple(source), tuple(target), mode, num_extra_tokens)


def resize_bias_table(table: Tensor, length: int) -> Tensor:
    """A table of relative position biases for another square window.

    Bicubic, as Swin's own code does it.

    Args:
        table (Tensor): ``((2w − 1)², heads)`` for windows of side w.
        length (int): ``(2w' − 1)²``.

    Returns:
        Tensor: ``(length, heads)``, of the table's dtype.

    Raises:
        ValueError: If either length is no square.
    """
    sides = [round(n**.5) for n in (len(table), length)]
    if [side**2 for side in sides] != [len(table), length]:
        raise ValueError(
            f'a table of {len(table)} relative positions cannot be resized to '
            f'{length}: square windows of side w have (2w - 1)² of them')
    maps = table.float().T.unflatten(1, (sides[0], sides[0])).unsqueeze(0)
    maps = F.interpolate(maps, size=(sides[1], sides[1]), mode='bicubic')
    return maps[0].flatten(1).T.to(table.dtype)
