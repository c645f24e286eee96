# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Near-duplicates by a hash of small thumbnails, before anything is trained."""
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np

#: Bits of two hashes that may differ.
DISTANCE = 3
_BANDS = DISTANCE + 1


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
    """Groups of images whose hashes differ by at most :data:`DISTANCE` bits.

    Two such hashes agree in at least one of ``DISTANCE + 1`` parts, so that only
    images that share a part are compared.

    Args:
        hashes: Of :func:`difference_hash`.

    Returns:
        Positions in ``hashes``, ascending, of every group of two or more.
    """
    holders = defaultdict(list)
    for position, value in enumerate(hashes):
        holders[value].append(position)
    parent = {value: value for value in holders}

    def root(value: int) -> int:
        while parent[value] != value:
            value = parent[value]
        return value

    width = 64 // _BANDS
    for part in range(_BANDS):
        buckets = defaultdict(list)
        for value in holders:
            buckets[value >> part * width & (1 << width) - 1].append(value)
        for bucket in buckets.values():
            for a, b in combinations(bucket, 2):
                if (a ^ b).bit_count() <= DISTANCE:
                    parent[root(a)] = root(b)
    groups = defaultdict(list)
    for value, positions in holders.items():
        groups[root(value)] += positions
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)
