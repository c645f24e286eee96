# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from typing import NamedTuple, Optional

from torch import Tensor


class TokenLayout(NamedTuple):
    """Where the tokens of an encoder stand in the image.

    Attributes:
        grid (tuple[int, int]): Rows and columns of patches.
        num_extra_tokens (int): Tokens before the patches (class token).
        ids (Tensor, optional): ``(R, V)``, int64, the patch of every token;
            None when all patches are there, in row-major order.
    """

    grid: tuple[int, int]
    num_extra_tokens: int
    ids: Optional[Tensor] = None
