# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import math
from collections.abc import Iterator, Sized
from itertools import count

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmeffmae.randomness import mix_key
from mmeffmae.registry import DATA_SAMPLERS

from .keyed_index import KeyedIndex


def epoch_order(size: int, seed: int, epoch: int, shuffle: bool) -> list[int]:
    """Order in which an epoch visits a dataset of ``size`` images."""
    if not shuffle:
        return list(range(size))
    generator = torch.Generator().manual_seed(mix_key(seed, epoch))
    return torch.randperm(size, generator=generator).tolist()


@DATA_SAMPLERS.register_module()
class KeyedSampler(Sampler):
    """mmengine's ``DefaultSampler`` with a random key for every draw.

    Position p of an epoch goes to rank p mod world size, so all ranks
    together visit the same images with the same keys whatever their number.

    Args:
        dataset: The dataset.
        shuffle: Whether each epoch has a new order.
        seed: Seed, equal on all ranks; the Runner passes its own.
        round_up: Repeat the first images of the epoch until every rank has
            the same number.

    Raises:
        ValueError: The dataset is empty.
    """

    def __init__(self,
                 dataset: Sized,
                 shuffle: bool = True,
                 seed: int | None = None,
                 round_up: bool = True) -> None:
        _check_not_empty(dataset, type(self).__name__)
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        total = len(dataset)
        if round_up:
            total = math.ceil(total / self.world_size) * self.world_size
        self.total_size = total

    def __iter__(self) -> Iterator[KeyedIndex]:
        size = len(self.dataset)
        order = epoch_order(size, self.seed, self.epoch, self.shuffle)
        for position in range(self.rank, self.total_size, self.world_size):
            yield KeyedIndex(order[position % size],
                             (self.seed, self.epoch, position))

    def __len__(self) -> int:
        """Number of samples of this rank in an epoch."""
        return len(range(self.rank, self.total_size, self.world_size))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration visits."""
        self.epoch = epoch


@DATA_SAMPLERS.register_module()
class InfiniteKeyedSampler(InfiniteSampler):
    """mmengine's ``InfiniteSampler`` with a random key for every draw.

    It visits epoch after epoch; draw d, over all ranks, is position d mod
    size of epoch d div size.

    Args:
        dataset: The dataset.
        shuffle: Whether each epoch has a new order.
        seed: Seed, equal on all ranks; the Runner passes its own.

    Raises:
        ValueError: The dataset is empty.
    """

    def __init__(self,
                 dataset: Sized,
                 shuffle: bool = True,
                 seed: int | None = None) -> None:
        _check_not_empty(dataset, type(self).__name__)
        super().__init__(dataset, shuffle=shuffle, seed=seed)
        self._skipped = 0

    def __iter__(self) -> Iterator[KeyedIndex]:
        first = self._skipped * self.world_size + self.rank
        epoch, order = -1, []
        for draw in count(first, self.world_size):
            if draw // self.size != epoch:
                epoch = draw // self.size
                order = epoch_order(self.size, self.seed, epoch, self.shuffle)
            position = draw % self.size
            yield KeyedIndex(order[position], (self.seed, epoch, position))

    def skip(self, num_samples: int) -> None:
        """Start the next iteration after this rank's first samples.

        Args:
            num_samples: Number of this rank's samples, counted from the
                start of the run. mmengine's iteration-based loop calls this
                on resume.

        Raises:
            ValueError: ``num_samples`` is negative.
        """
        if num_samples < 0:
            raise ValueError(f'num_samples {num_samples} is negative '
                             '(InfiniteKeyedSampler.skip): pass the number '
                             'of samples this rank has consumed')
        self._skipped = num_samples


def _check_not_empty(dataset: Sized, name: str) -> None:
    if len(dataset) == 0:
        raise ValueError(f'the dataset {type(dataset).__name__} is empty '
                         f'({name}): check its data_root and data_prefix')
