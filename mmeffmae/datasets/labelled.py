# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A folder of images with one sub-folder a class, and a fixed held-out part."""
from collections.abc import Sequence
from os.path import expanduser
from typing import Any

from mmpretrain.datasets import CustomDataset

from mmeffmae.registry import DATASETS

from .skip_unreadable import SkipUnreadable
from .unlabelled import EXTENSIONS, MEND, check_folder


def held_out_quotas(sizes: dict[int, int], held_out: int) -> dict[int, int]:
    """Share ``held_out`` among classes in proportion to their sizes.

    Largest remainders first; ties go to the smaller label.

    Args:
        sizes: Number of images of each label.
        held_out: Number of images to hold out.

    Returns:
        dict[int, int]: Number of images to hold out of each label; the sum is
        ``held_out``.
    """
    total = sum(sizes.values())
    quotas = {c: held_out * n // total for c, n in sizes.items()}
    by_remainder = sorted(sizes, key=lambda c: (-(held_out * sizes[c] % total), c))
    for c in by_remainder[:held_out - sum(quotas.values())]:
        quotas[c] += 1
    return quotas


def held_out_indices(labels: Sequence[int], held_out: int) -> set[int]:
    """Choose samples evenly spaced within each class, without chance.

    Args:
        labels: Label of each sample, samples in a fixed order.
        held_out: Number of samples to choose, stratified by label.

    Returns:
        set[int]: Indices of the chosen samples.
    """
    members: dict[int, list[int]] = {}
    for i, label in enumerate(labels):
        members.setdefault(label, []).append(i)
    sizes = {label: len(of) for label, of in members.items()}
    chosen: set[int] = set()
    for c, quota in held_out_quotas(sizes, held_out).items():
        chosen.update(members[c][(2 * j + 1) * sizes[c] // (2 * quota)]
                      for j in range(quota))
    return chosen


@DATASETS.register_module()
class LabelledImages(SkipUnreadable, CustomDataset):
    """mmpretrain's ``CustomDataset`` with a held-out part and clear errors.

    Monitors and tuning read images that training never sees, and leave the
    validation images alone: build the same folder twice, with
    ``split='train'`` and ``split='held_out'``.

    Args:
        data_root: Root folder; ``~`` is expanded.
        data_prefix: Sub-folder of ``data_root`` with one folder a class.
        held_out: Number of images to hold out, stratified by class and
            evenly spaced in each class's sorted list of files.
        split: ``'train'`` reads all images but those held out, ``'held_out'``
            reads those.
        extensions: Endings of image files, in lower case.
        max_unreadable: Largest tolerated share of unreadable images.
        **kwargs: Other arguments of ``mmpretrain.datasets.CustomDataset``.

    Raises:
        FileNotFoundError: The folder does not exist or holds no image.
        ValueError: ``split`` is unknown, or ``held_out`` leaves nothing to
            train on, or is 0 and to be read.
    """

    def __init__(self, data_root: str, data_prefix: str = '',
                 held_out: int = 0, split: str = 'train',
                 extensions: Sequence[str] = EXTENSIONS,
                 **kwargs: Any) -> None:
        if split not in ('train', 'held_out'):
            raise ValueError(f"split {split!r} is unknown (LabelledImages): "
                             "use 'train' or 'held_out'")
        self.held_out = held_out
        self.split = split
        super().__init__(
            data_root=expanduser(data_root), data_prefix=data_prefix,
            extensions=extensions, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict with ``img_path`` and ``gt_label`` for each image."""
        owner = type(self).__name__
        check_folder(self.img_prefix, owner)
        try:
            samples = super().load_data_list()
        except RuntimeError as error:
            raise FileNotFoundError(
                f'data folder {self.img_prefix!r} holds no images in '
                f'sub-folders, one a class ({owner}): {MEND}') from error
        least = 1 if self.split == 'held_out' else 0
        if not least <= self.held_out < len(samples):
            raise ValueError(
                f'held_out {self.held_out} does not fit the {len(samples)} '
                f'images in {self.img_prefix!r} (LabelledImages, split '
                f'{self.split!r}): use {least} to {len(samples) - 1}')
        labels = [sample['gt_label'] for sample in samples]
        chosen = held_out_indices(labels, self.held_out)
        return [sample for i, sample in enumerate(samples)
                if (i in chosen) == (self.split == 'held_out')]
