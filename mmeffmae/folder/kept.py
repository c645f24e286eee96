# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Photographs that stay on the device for the whole run: how large, how fast."""
import math
import statistics
from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch

from mmeffmae.datasets.batched_crop import CropRanges, crop_batch, draw_crops
from mmeffmae.evaluation.throughput import spread

from .machine import Machine
from .measure import Speed, time_rounds
from .survey import Survey

#: Shorter side of a median photograph over that of the crops: the usual 256 to 224.
_MARGIN = 8 / 7
_UNIT = 16


@dataclass(frozen=True)
class Kept:
    """What :class:`mmeffmae.datasets.DeviceImages` holds.

    Attributes:
        side: Longest side, in pixels; larger photographs are reduced to it.
        bytes: Of all of them, on the device.
    """
    side: int
    bytes: int

    @classmethod
    def plan(cls, survey: Survey, num_images: int, img_size: int) -> Optional['Kept']:
        """Enough pixels for crops of a size.

        Args:
            survey: Of the folder.
            num_images: Number of images to read.
            img_size: Side of the crops, in pixels.

        Returns:
            None for images that are no photographs of 8 bits.
        """
        if not survey.photographs:
            return None
        sides = [(header.width, header.height) for header in survey.headers]
        aspect = statistics.median(max(pair) / min(pair) for pair in sides)
        wanted = _UNIT * math.ceil(_MARGIN * img_size * aspect / _UNIT)
        side = min(wanted, max(map(max, sides)))
        return cls(side, 3 * num_images * side**2)

    def lacking(self, speed: Speed, machine: Machine) -> Optional[str]:
        """What there is too little of for them, None if they fit.

        Args:
            speed: Of the steps that they are kept beside.
            machine: Where.
        """
        if speed.memory + self.bytes > machine.memory:
            return (f'{self.bytes / 2**30:.2f} GiB beside the '
                    f'{speed.memory / 2**30:.2f} GiB of a step, and {machine.name} '
                    f'has {machine.memory / 2**30:.2f} GiB to use')
        if self.bytes > machine.host:
            return (f'{self.bytes / 2**30:.2f} GiB of the computer\'s own memory while '
                    f'they are read, and {machine.host / 2**30:.2f} GiB are free')
        return None


def crop_seconds(kept: int, batch: int, img_size: int, machine: Machine) -> float:
    """Seconds in which the device makes a crop.

    Args:
        kept: Side of what it is cut from, in pixels.
        batch: Crops that are made at once.
        img_size: Side of the crops, in pixels.
        machine: Where.
    """
    device = torch.device(machine.device)
    images = torch.zeros(batch, 3, kept, kept, dtype=torch.uint8, device=device)
    boxes, flip = draw_crops(
        np.arange(batch), np.full((batch, 2), kept), CropRanges())
    where, mirrored = (torch.from_numpy(part).to(device) for part in (boxes, flip))

    def crop() -> None:
        crop_batch(images, where, mirrored, img_size)

    crop()
    return spread(time_rounds(crop, machine))['median'] / batch
