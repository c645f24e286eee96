# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import torch
from torch import Tensor

from .plan import MaskPlan


def visible_neighbours(plan: MaskPlan) -> Tensor:
    """Where the 3 × 3 patches around every visible one are found.

    Hidden slots count as masked: nothing may read their pixels.

    Args:
        plan (MaskPlan): K views of each of B images.

    Returns:
        Tensor: ``(B·K·V, 9)``, int64, row by row: the neighbour's place among
        the B·K·V visible patches, or B·K·V if it is masked or outside.
    """
    rows, cols = plan.grid
    ids = plan.ids_keep.flatten(0, 1)
    views, visible = ids.shape
    none = views * visible
    places = torch.arange(none, device=ids.device).view(views, visible)
    if plan.hidden is not None:
        places = places.masked_fill(plan.hidden.flatten(0, 1), none)
    # A frame of cells around the grid spares the look-ups any comparison.
    width = cols + 2
    framed = (ids // cols + 1) * width + ids % cols + 1
    table = ids.new_full((views, (rows + 2) * width), none)
    table = table.scatter(1, framed, places)
    step = torch.arange(-1, 2, device=ids.device)
    around = (step[:, None] * width + step).flatten()
    around = (framed.unsqueeze(-1) + around).flatten(1)
    return table.gather(1, around).view(none, 9)
