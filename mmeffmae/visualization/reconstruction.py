# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Pictures of what a masked autoencoder sees and predicts."""
from os import PathLike
from pathlib import Path
from typing import Optional, Union

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from mmeffmae.checkpoint.metadata import preprocessing_of_module
from mmeffmae.evaluation.features import evaluation_mode
from mmeffmae.evaluation.rng import isolated_rng
from mmeffmae.masking import MaskPlan, scatter_tokens

#: Grey value of masked patches.
MASKED = 127
#: Grey value between the tiles of a picture.
BORDER = 255


def to_uint8_rgb(images: Tensor,
                 preprocessor: nn.Module,
                 channel_order: Optional[str] = None) -> Tensor:
    """Undo a data preprocessor's normalisation and channel order.

    Args:
        images: Model inputs, ``(..., C, H, W)`` float, C = 1 or 3; any C if
            the preprocessor says how they are drawn
            (:meth:`mmeffmae.models.BandDataPreprocessor.drawable`).
        preprocessor: The data preprocessor that made them.
        channel_order: Order of C = 3 channels in ``images``, ``'rgb'`` or
            ``'bgr'``. By default RGB if the preprocessor converts, and BGR,
            which the stack's loader reads, if not.

    Returns:
        RGB pictures ``(..., 3, H, W)``, uint8, on the CPU.

    Raises:
        ValueError: Another number of channels or another order.
    """
    drawable = getattr(preprocessor, 'drawable', None)
    if drawable is not None:
        images = drawable(images)
    channels = images.shape[-3]
    if channels not in (1, 3):
        raise ValueError(f'images of {channels} channels cannot be drawn: '
                         'give 1 or 3')
    order = channel_order or preprocessing_of_module(preprocessor).get(
        'channel_order', 'bgr')
    if order not in ('rgb', 'bgr', 'file'):  # of other bands, drawn as they are
        raise ValueError(f"channel_order {order!r}: use 'rgb' or 'bgr'")
    pixels = images.detach().float().cpu()
    if drawable is None and getattr(preprocessor, '_enable_normalize', False):
        pixels = pixels * preprocessor.std.cpu() + preprocessor.mean.cpu()
    pixels = pixels.round().clamp(0, 255).to(torch.uint8)
    if channels == 1:
        return pixels.expand(*pixels.shape[:-3], 3, *pixels.shape[-2:])
    return pixels.flip(-3) if order == 'bgr' else pixels


def draw_reconstruction(images: Tensor,
                        reconstruction: Tensor,
                        plan: MaskPlan,
                        preprocessor: nn.Module,
                        channel_order: Optional[str] = None,
                        margin: int = 2) -> np.ndarray:
    """One row an image: the original, then seen and predicted by each view.

    Args:
        images: Model inputs, ``(B, C, H, W)`` float.
        reconstruction: Predicted images in the space of ``images``,
            ``(B, K, C, H, W)`` float.
        plan: Masks of the K views; patches that a view does not see, or sees
            as a learnable token only, are grey.
        preprocessor: The data preprocessor that made ``images``.
        channel_order: See :func:`to_uint8_rgb`.
        margin: Pixels around each tile.

    Returns:
        An RGB picture ``(B·(H+m)+m, (1+2K)·(W+m)+m, 3)``, uint8, with margin
        m.
    """
    original = to_uint8_rgb(images, preprocessor, channel_order)
    predicted = to_uint8_rgb(reconstruction, preprocessor, channel_order)
    original = original.unsqueeze(1)
    shown = _shown_pixels(plan, images.shape[-2:]).unsqueeze(2)
    seen = torch.where(shown, original, original.new_tensor(MASKED))
    views = torch.stack([seen, predicted], dim=2).flatten(1, 2)
    return tile_pictures(torch.cat([original, views], dim=1), margin)


def _shown_pixels(plan: MaskPlan, size: torch.Size) -> Tensor:
    """Pixels that the encoder reads, ``(B, K, H, W)`` bool on the CPU."""
    shown = plan.visible
    if plan.hidden is not None:
        shown = scatter_tokens((~plan.hidden).flatten(0, 1).unsqueeze(-1),
                               plan.ids_keep.flatten(0, 1),
                               plan.num_patches).reshape(shown.shape)
    patches = shown.cpu().float().unflatten(-1, plan.grid)
    return F.interpolate(patches, size=tuple(size), mode='nearest').bool()


def tile_pictures(tiles: Tensor, margin: int) -> np.ndarray:
    """Lay out ``(rows, columns, 3, H, W)`` as one ``(H', W', 3)`` picture."""
    tiles = F.pad(tiles, (margin, 0, margin, 0), value=BORDER)
    rows, columns, _, height, width = tiles.shape
    picture = tiles.permute(0, 3, 1, 4, 2).reshape(rows * height,
                                                   columns * width, 3)
    return F.pad(
        picture, (0, 0, 0, margin, 0, margin), value=BORDER).numpy()


def render_reconstruction(model: nn.Module,
                          images: Tensor,
                          seed: int = 0,
                          channel_order: Optional[str] = None) -> np.ndarray:
    """Mask images, reconstruct them and draw the result.

    The masks come from ``seed`` alone; the random streams and the train
    mode of the model are left as they were.

    Args:
        model: An algorithm with ``draw_plan``, ``reconstruct`` and
            ``data_preprocessor``.
        images: Normalised model inputs, ``(B, C, H, W)``, on its device.
        seed: Seed of the masks.
        channel_order: See :func:`to_uint8_rgb`.

    Returns:
        The picture of :func:`draw_reconstruction`.
    """
    with evaluation_mode(model), isolated_rng(seed):
        plan = model.draw_plan(images)
        reconstruction, plan = model.reconstruct(images, plan)
    return draw_reconstruction(images, reconstruction, plan,
                               model.data_preprocessor, channel_order)


def save_picture(picture: np.ndarray, path: Union[str, PathLike]) -> Path:
    """Write an RGB picture ``(H, W, 3)`` uint8; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path
