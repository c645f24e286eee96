# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""How many patches a mask ratio leaves visible."""
import math


def visible_count(num_patches: int, mask_ratio: float, owner: str) -> int:
    """``floor(N · (1 - mask_ratio))``, the visible patches of a view.

    The floor forgives the rounding of floats: 100 patches at ratio 0.9 leave
    10, where ``int(100 * (1 - 0.9))`` gives 9.

    Args:
        num_patches (int): Patches N.
        mask_ratio (float): Share of the patches that is masked, in [0, 1).
        owner (str): Who asks; named in errors.

    Raises:
        ValueError: If nothing would be visible or nothing masked, or the
            ratio is no number.
    """
    if not isinstance(mask_ratio, (int, float)):
        raise ValueError(f'mask_ratio {mask_ratio!r} is no number ({owner}): use a '
                         'share from 0 up to, but not including, 1')
    visible = math.floor(num_patches * (1 - mask_ratio) + 1e-6)
    if visible < 1:
        raise ValueError(
            f'mask_ratio {mask_ratio} leaves no visible patch of {num_patches} '
            f'({owner}): use at most {1 - 1 / num_patches:.3f}')
    if visible >= num_patches:
        raise ValueError(
            f'mask_ratio {mask_ratio} masks none of {num_patches} patches '
            f'({owner}), so there is nothing to predict: use at least '
            f'{1 / num_patches:.3f}')
    return visible
