# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Fixed parts of labelled images: to learn from few, to choose a setting by."""
import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Optional

import numpy as np
import torch
from torch import Tensor

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


def split_for_choice(
    bank: Tensor, share: float, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Split a bank of features to choose a setting of its classifier.

    Args:
        bank: Features, one an image along the first dimension.
        share: Of the bank, held out; one image at least.
        seed: Of a generator of its own.

    Returns:
        tuple[Tensor, Tensor]: Indices to fit on and to judge by, int64, on the
        bank's device.

    Raises:
        ValueError: The bank has fewer than two images.
    """
    if len(bank) < 2:
        raise ValueError(
            f'a bank of {len(bank)} image(s): a probe needs at least 2, check the '
            'data_root of the bank')
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(bank), generator=generator).to(bank.device)
    num_held = max(1, round(share * len(bank)))
    return order[num_held:], order[:num_held]
