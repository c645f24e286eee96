# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Random resized crops of a whole batch, on any device.

What to crop is drawn on the host, by numpy and without a loop over images; a
crop is then two matrix products, one along the columns and one along the rows,
whose shapes never change.
"""
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmeffmae.randomness import keyed_uniforms

#: Attempts to draw a crop that fits the image, as torchvision and mmpretrain do.
_ATTEMPTS = 10
#: Of the bicubic kernel, as in OpenCV and torch.
_CUBIC = -0.75


class CropRanges(NamedTuple):
    """What :class:`mmpretrain.RandomResizedCrop` and a flip draw from.

    Attributes:
        area: Share of the image's pixels.
        aspect: Width over height.
        flip_prob: Of a mirror image.
    """

    area: tuple[float, float] = (0.2, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip_prob: float = 0.5


def draw_crops(
    keys: np.ndarray, sizes: np.ndarray, ranges: CropRanges
) -> tuple[np.ndarray, np.ndarray]:
    """Crops of the distribution of mmpretrain's ``RandomResizedCrop``.

    Args:
        keys: ``(B,)``, one of every sample; they alone decide.
        sizes: ``(B, 2)``, height and width of the images.
        ranges: What to draw from.

    Returns:
        tuple: Boxes ``(B, 4)``, int64: top, left, height and width; and
        whether to mirror, ``(B,)``.
    """
    uniforms = keyed_uniforms(keys, 2 * _ATTEMPTS + 3)
    area, aspect = uniforms[:, :2 * _ATTEMPTS].reshape(-1, 2, _ATTEMPTS).swapaxes(0, 1)
    area = (ranges.area[0] + area * (ranges.area[1] - ranges.area[0]))
    area = area * sizes.prod(axis=1)[:, None]
    low, high = map(math.log, ranges.aspect)
    aspect = np.exp(low + aspect * (high - low))
    # (B, attempts, 2)
    drawn = np.stack([np.sqrt(area / aspect), np.sqrt(area * aspect)], axis=-1)
    drawn = np.rint(drawn).astype(np.int64)
    fits = ((drawn > 0) & (drawn <= sizes[:, None])).all(axis=-1)
    rows = np.arange(len(keys))
    found = fits.any(axis=1, keepdims=True)
    lengths = np.where(found, drawn[rows, fits.argmax(axis=1)],
                       _central(sizes, ranges.aspect))
    # Where no attempt fits, the crop is in the middle.
    share = np.where(found, uniforms[:, -3:-1], 0.5)
    room = sizes - lengths + found
    starts = np.floor(share * room).astype(np.int64)
    return np.concatenate([starts, lengths], axis=1), (
        uniforms[:, -1] < ranges.flip_prob)


def _central(sizes: np.ndarray, aspect: tuple[float, float]) -> np.ndarray:
    """The largest crops whose aspect is in the range, ``(B, 2)``."""
    height, width = sizes.T
    narrow = np.rint(width / aspect[0]).astype(np.int64)
    flat = np.rint(height * aspect[1]).astype(np.int64)
    return np.stack([np.minimum(height, narrow), np.minimum(width, flat)], axis=1)


def crop_batch(images: Tensor, boxes: Tensor, flip: Tensor, scale: int) -> Tensor:
    """Crop, resize and mirror, as OpenCV's bicubic resizing of each crop does.

    Equal to it within one grey level, which its fixed-point numbers differ by.

    Args:
        images: ``(B, C, S, S')``, uint8.
        boxes: ``(B, 4)``, int64: top, left, height and width.
        flip: ``(B,)``, bool.
        scale: Side of the crops, in pixels.

    Returns:
        Tensor: ``(B, C, scale, scale)``, uint8.
    """
    rows = _resizing(boxes[:, 0], boxes[:, 2], None, scale, images.size(2))
    cols = _resizing(boxes[:, 1], boxes[:, 3], flip, scale, images.size(3))
    with _whole_float32():
        crops = rows.unsqueeze(1) @ images.float() @ cols.transpose(1, 2).unsqueeze(1)
    return crops.round_().clamp_(0, 255).to(torch.uint8)


@contextmanager
def _whole_float32() -> Iterator[None]:
    """No TF32, so that a run that trains in it sees the images of others."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('highest')
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _resizing(
    start: Tensor, length: Tensor, flip: Tensor | None, scale: int, size: int
) -> Tensor:
    """Matrices ``(B, scale, size)`` that cut out and resize along an axis."""
    place = torch.arange(scale, device=start.device).expand(len(start), -1)
    if flip is not None:
        place = torch.where(flip.unsqueeze(1), scale - 1 - place, place)
    length = length.unsqueeze(1)
    centre = (place + 0.5) * (length / scale) - 0.5  # in pixels of the crop
    first = centre.floor()
    taps = first.long().unsqueeze(-1) + torch.arange(-1, 3, device=start.device)
    taps = taps.clamp_min(0).minimum(length.unsqueeze(-1) - 1) + start[:, None, None]
    matrix = torch.zeros(len(start), scale, size, device=start.device)
    weights = _cubic_weights(centre - first)
    # At a border taps meet. One after the other they are added in the same order
    # every time, which a GPU would not keep to within one call.
    for tap in range(taps.size(2)):
        matrix.scatter_add_(2, taps[..., tap:tap + 1], weights[..., tap:tap + 1])
    return matrix


def _cubic_weights(t: Tensor) -> Tensor:
    """Weights of four neighbours, ``t`` behind the second: ``(..., 4)``."""
    near = [((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1 for x in (t, 1 - t)]
    outer = ((_CUBIC * (t + 1) - 5 * _CUBIC) * (t + 1) + 8 * _CUBIC) * (t + 1)
    outer = outer - 4 * _CUBIC
    return torch.stack([outer, *near, 1 - outer - near[0] - near[1]], dim=-1)
