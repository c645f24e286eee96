# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Fixed parts of a labelled dataset, for learning from few labels."""
import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Optional

import numpy as np

from mmeffmae.randomness import mix_key


def label_subset(
    labels: Sequence[int],
    share: Optional[float] = None,
    per_class: Optional[int] = None,
    seed: int = 0,
) -> list[int]:
    """Choose images at random, stratified by class.

    Every class has one random order, named by the seed and the class, and a
    subset takes its beginning: of two subsets with one seed, the smaller is
    part of the larger.

    Args:
        labels: Class of each image, images in a fixed order.
        share: Share of each class in (0, 1], rounded, at least one image.
        per_class: Images of each class instead; all, where it has fewer.
        seed: Names the choice.

    Returns:
        Indices of the chosen images, ascending.

    Raises:
        ValueError: Not one of ``share`` and ``per_class`` is given, or it is
            out of range.
    """
    if (share is None) == (per_class is None):
        raise ValueError(
            f'share {share} and per_class {per_class} (label_subset): give one')
    if share is not None and not 0 < share <= 1:
        raise ValueError(
            f'share {share} (label_subset): use a number above 0 and up to 1')
    if per_class is not None and per_class < 1:
        raise ValueError(f'per_class {per_class} (label_subset): use 1 or more')
    classes = np.asarray(labels)
    chosen: list[int] = []
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        order = np.random.default_rng(mix_key(seed, int(label)))
        count = per_class or max(1, round((share or 0) * len(members)))
        chosen += order.permutation(members)[:count].tolist()
    return sorted(chosen)


def describe_subset(labels: Sequence[int], indices: Sequence[int]) -> dict:
    """What a result file says of a subset: sizes and a hash of the choice."""
    counts = Counter(int(labels[index]) for index in indices)
    text = ' '.join(map(str, indices))
    return dict(
        images=len(indices),
        per_class=[min(counts.values()), max(counts.values())],
        indices_hash=hashlib.sha256(text.encode()).hexdigest()[:12])
