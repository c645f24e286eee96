# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.


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
    if fitting != tuple(size) or not rows * cols:
        nearest = tuple(max(s, patch_size) for s in fitting)
        raise ValueError(
            f'image size {tuple(size)} is not divisible by patch_size '
            f'{patch_size} ({owner}): resize or crop the images to a multiple, '
            f'such as {nearest}')
    return rows, cols
