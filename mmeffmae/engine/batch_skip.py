# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Start a data loader in the middle of its stream without loading data."""
from collections.abc import Iterator
from itertools import islice
from typing import Any

from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import DataLoader, Sampler


class SkippingBatchSampler:
    """A batch sampler whose next iteration leaves out the first batches.

    Args:
        batch_sampler: The batch sampler to wrap, of any kind.
    """

    def __init__(self, batch_sampler: Sampler) -> None:
        self._wrapped = batch_sampler
        self._skip = 0

    def skip(self, num_batches: int) -> None:
        """Leave out the first batches of the next iteration only."""
        self._skip = num_batches

    def __iter__(self) -> Iterator:
        # A generator: DataLoader asks for more iterators than it uses.
        skip, self._skip = self._skip, 0
        yield from islice(iter(self._wrapped), skip, None)

    def __len__(self) -> int:
        return len(self._wrapped)

    def __getattr__(self, name: str):
        if name == '_wrapped':  # not there yet while unpickling
            raise AttributeError(name)
        return getattr(self._wrapped, name)


def skip_batches(dataloader: DataLoader, num_batches: int) -> None:
    """Leave out the first batches of the loader's next epoch.

    Args:
        dataloader: The loader, not yet iterated over.
        num_batches: Number of batches to leave out.
    """
    batch_sampler = dataloader.batch_sampler
    if not isinstance(batch_sampler, SkippingBatchSampler):
        batch_sampler = SkippingBatchSampler(batch_sampler)
        # DataLoader forbids plain assignment after construction because a
        # different sampler would contradict its other attributes; this one
        # agrees with them.
        vars(dataloader)['batch_sampler'] = batch_sampler
    batch_sampler.skip(num_batches)


class _AdvancedIterator:
    """A data iterator whose first results are not loaded but None."""

    def __init__(self, iterator: Iterator, num_results: int) -> None:
        self._iterator = iterator
        self._left = num_results

    def __iter__(self) -> '_AdvancedIterator':
        return self

    def __next__(self) -> Any:
        if self._left == 0:
            return next(self._iterator)
        self._left -= 1
        return None


def fast_forward(loop: IterBasedTrainLoop) -> None:
    """Skip the consumed samples where mmengine would load and drop them.

    The maintained mmengine skips in the sampler by itself. mmengine 0.10.7
    calls ``next`` once for each past iteration: here those calls get None
    and the sampler moves on at once.

    Args:
        loop: The loop, resumed at ``loop.iter``.
    """
    sampler = find_sampler(loop.dataloader)
    iterator = loop.dataloader_iterator
    if hasattr(iterator, 'skip_iter') or not hasattr(sampler, 'skip'):
        return
    batch_size = loop.dataloader.batch_sampler.batch_size
    sampler.skip(loop.iter * batch_size)
    loop.dataloader_iterator = _AdvancedIterator(
        type(iterator)(loop.dataloader), loop.iter)


def find_sampler(dataloader: DataLoader) -> Sampler:
    """The sampler of single indices, below any batch sampler."""
    batch_sampler = dataloader.batch_sampler
    return getattr(batch_sampler, 'sampler', dataloader.sampler)
