# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Photographs that stay on the device for the whole run: how large, how fast."""
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch

from mmeffmae.datasets.batched_crop import CropRanges, crop_batch, draw_crops
from mmeffmae.evaluation.throughput import spread

from .machine import Machine
from .measure import BYTES_A_PARAMETER, Speed, time_rounds
from .survey import Survey

#: Shorter side of a median photograph over that of the crops, the better first. At
#: the second, random crops are enlarged half of the time, at the first seldom.
_MARGINS = (1.6, 8 / 7)
_UNIT = 16


@dataclass(frozen=True)
class Kept:
    """What :class:`mmeffmae.datasets.DeviceImages` holds.

    Attributes:
        side: Longest side, in pixels; larger photographs are reduced to it.
        bytes: Of all of them, on the device.
        img_size: Side of the crops, in pixels.
        enlarged: Share of a photograph below which crops are enlarged; of what is
            not reduced 0, as then they are those of files.
    """
    side: int
    bytes: int
    img_size: int
    enlarged: float

    @classmethod
    def options(
        cls, survey: Survey, num_images: int, img_size: int
    ) -> Iterator['Kept']:
        """Enough pixels for crops of a size, the most first.

        Args:
            survey: Of the folder.
            num_images: Number of images to read.
            img_size: Side of the crops, in pixels.
        """
        sides = [(header.width, header.height) for header in survey.headers]
        aspect = statistics.median(max(pair) / min(pair) for pair in sides)
        largest = max(map(max, sides))
        for margin in _MARGINS:
            wanted = _UNIT * math.ceil(margin * img_size * aspect / _UNIT)
            side = min(wanted, largest)
            enlarged = aspect * (img_size / side)**2 if side < largest else 0.
            yield cls(side, 3 * num_images * side**2, img_size, enlarged)

    def lacking(self, batch: int, speed: Speed, machine: Machine) -> Optional[str]:
        """What there is too little of for them, None if they fit.

        Args:
            batch: Crops that are made at once.
            speed: Of the steps that they are kept beside.
            machine: Where.
        """
        crops = speed.parameters * BYTES_A_PARAMETER + batch * self._crop_bytes()
        beside = max(speed.memory, crops)
        if beside + self.bytes > machine.memory:
            return (f'{self.bytes / 2**30:.2f} GiB beside the {beside / 2**30:.2f} GiB '
                    f'of a step, and {machine.name} has {machine.memory / 2**30:.2f} '
                    'GiB to use')
        if self.bytes > machine.host:
            return (f'{self.bytes / 2**30:.2f} GiB of the computer\'s own memory while '
                    f'they are read, and {machine.host / 2**30:.2f} GiB are free')
        return None

    def _crop_bytes(self) -> int:
        """Of the photograph, as uint8 and float32, both products and matrices."""
        side, size = self.side, self.img_size
        return 15 * side**2 + 12 * side * size + 15 * size**2 + 8 * side * size


def crop_seconds(kept: Kept, batch: int, machine: Machine) -> float:
    """Seconds in which the device makes a crop.

    Args:
        kept: What it is cut from.
        batch: Crops that are made at once.
        machine: Where.
    """
    device = torch.device(machine.device)
    images = torch.zeros(
        batch, 3, kept.side, kept.side, dtype=torch.uint8, device=device)
    boxes, flip = draw_crops(
        np.arange(batch), np.full((batch, 2), kept.side), CropRanges())
    where, mirrored = (torch.from_numpy(part).to(device) for part in (boxes, flip))

    def crop() -> None:
        crop_batch(images, where, mirrored, kept.img_size)

    crop()
    return spread(time_rounds(crop, machine))['median'] / batch
