# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from types import SimpleNamespace

from torch.utils.data import BatchSampler, DataLoader

from mmeffmae.datasets.samplers import InfiniteKeyedSampler
from mmeffmae.engine.batch_skip import (
    SkippingBatchSampler,
    fast_forward,
    find_sampler,
    skip_batches,
)


class Images(list):
    """A dataset that tells what was loaded."""

    def __init__(self, size: int) -> None:
        super().__init__(range(size))
        self.loaded = []

    def __getitem__(self, index: int) -> int:
        self.loaded.append(int(index))
        return index


def batches(loader) -> list[list[int]]:
    return [batch.tolist() for batch in loader]


def test_next_epoch_alone_starts_later_and_nothing_is_loaded():
    images = Images(7)
    order = BatchSampler([6, 5, 4, 3, 2, 1, 0], 2, drop_last=False)
    loader = DataLoader(images, batch_sampler=order)
    skip_batches(loader, 2)
    assert len(loader) == 4
    assert batches(loader) == [[2, 1], [0]]
    assert images.loaded == [2, 1, 0]
    assert batches(loader) == [[6, 5], [4, 3], [2, 1], [0]]
    skip_batches(loader, 4)
    assert batches(loader) == []
    assert isinstance(loader.batch_sampler, SkippingBatchSampler)
    assert not isinstance(loader.batch_sampler._wrapped, SkippingBatchSampler)
    assert find_sampler(loader) is order.sampler


def test_iterator_that_loads_what_it_skips_is_replaced():
    """The loop of mmengine 0.10.7 asks for all past batches on resume."""
    images = Images(8)
    loader = DataLoader(
        images, batch_size=2, sampler=InfiniteKeyedSampler(images, seed=0))
    stream = [next(b) for b in [iter(loader)] for _ in range(6)]
    images.loaded.clear()

    loop = SimpleNamespace(
        dataloader=loader, dataloader_iterator=ResetIterator(loader), iter=3)
    fast_forward(loop)
    resumed = [next(loop.dataloader_iterator) for _ in range(6)]
    assert resumed[:3] == [None] * 3
    assert all((a == b).all() for a, b in zip(resumed[3:], stream[3:]))
    assert len(images.loaded) == 6


class ResetIterator:
    """As in mmengine 0.10.7: made from a loader, without ``skip_iter``."""

    def __init__(self, loader: DataLoader) -> None:
        self._iterator = iter(loader)

    def __next__(self):
        return next(self._iterator)
