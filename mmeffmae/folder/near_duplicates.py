# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Near-duplicates by a hash of small thumbnails, before anything is trained."""
from collections import defaultdict
from collections.abc import Sequence

import cv2
import numpy as np

#: Bits of two hashes that may differ.
DISTANCE = 3
_PARTS = DISTANCE + 1
_WIDTH = 64 // _PARTS


def difference_hash(image: np.ndarray) -> int:
    """64 bits: which of two neighbours in a row of a 9 × 8 thumbnail is darker.

    "dHash": scaling, recompression and small changes of colour keep most bits.
    Flat images share one hash.

    Args:
        image: ``(H, W, C)`` of any type; the bands are averaged.
    """
    grey = image.mean(axis=2, dtype=np.float32)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    bits = small[:, 1:] > small[:, :-1]
    return int.from_bytes(np.packbits(bits).tobytes(), 'big')


def near_duplicate_groups(hashes: Sequence[int]) -> list[list[int]]:
    """Images whose hash differs from an earlier one's by :data:`DISTANCE` bits.

    The first image of a group stands for it: every other is close to that one, so
    that a slow change over many images does not make them one group. Two such
    hashes agree in at least one of ``DISTANCE + 1`` parts, so that only images that
    share a part are compared.

    Args:
        hashes: Of :func:`difference_hash`.

    Returns:
        Positions in ``hashes``, ascending, of every group of two or more.
    """
    groups: dict[int, list[int]] = {}
    firsts: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, value in enumerate(hashes):
        parts = [(part, value >> part * _WIDTH & (1 << _WIDTH) - 1)
                 for part in range(_PARTS)]
        close = [first for part in parts for first in firsts[part]
                 if (value ^ hashes[first]).bit_count() <= DISTANCE]
        if close:
            groups[min(close)].append(position)
            continue
        groups[position] = [position]
        for part in parts:
            firsts[part].append(position)
    return [group for group in groups.values() if len(group) > 1]
