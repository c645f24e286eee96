# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.


def check_heads(width: int, num_heads: int, owner: str) -> None:
    """Refuse a number of attention heads that does not divide the width.

    Args:
        width (int): Channels of a token.
        num_heads (int): Heads.
        owner (str): Who asks; named in errors.

    Raises:
        ValueError: If it does not, or is no whole number of 1 or more.
    """
    whole = isinstance(width, int) and isinstance(num_heads, int)
    if not whole or min(width, num_heads) < 1 or width % num_heads:
        raise ValueError(
            f'num_heads {num_heads!r} does not divide the width {width} ({owner}): '
            'use a divisor')


#: More layers than this are a slip of the keyboard, and building them hangs.
MAX_LAYERS = 1000


def check_depth(layers: int, name: str, owner: str) -> None:
    """Refuse a number of layers that nobody can mean.

    Args:
        layers (int): Layers.
        name (str): Of the setting, named in errors.
        owner (str): Who asks; named in errors.

    Raises:
        ValueError: If it is no whole number from 1 to :data:`MAX_LAYERS`.
    """
    if (not isinstance(layers, int) or isinstance(layers, bool)
            or not 1 <= layers <= MAX_LAYERS):
        raise ValueError(f'{name} {layers!r} ({owner}): use a whole number from 1 '
                         f'to {MAX_LAYERS}')


def divide_image(
    size: tuple[int, int], patch_size: int, owner: str
) -> tuple[int, int]:
    """Rows and columns of patches of an image of ``(H, W)`` pixels.

    Args:
        size (tuple[int, int]): H, W.
        patch_size (int): Side of a patch, in pixels.
        owner (str): Who asks; named in errors.

    Raises:
        ValueError: If the patch size does not divide both.
    """
    rows, cols = size[0] // patch_size, size[1] // patch_size
    fitting = (rows * patch_size, cols * patch_size)
    if fitting != tuple(size) or min(rows, cols) < 1:
        nearest = tuple(max(s, patch_size) for s in fitting)
        raise ValueError(
            f'image size {tuple(size)} is not divisible by patch_size '
            f'{patch_size} ({owner}): resize or crop the images to a multiple, '
            f'such as {nearest}')
    return rows, cols
