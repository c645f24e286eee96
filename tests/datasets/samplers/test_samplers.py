# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What each rank draws, with which keys."""
import pickle
from itertools import islice

import numpy as np
import pytest
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset

from mmeffmae.datasets import UnlabelledImages
from mmeffmae.datasets.samplers import InfiniteKeyedSampler, KeyedIndex, KeyedSampler
from mmeffmae.datasets.transforms import SeedSample
from mmeffmae.randomness import mix_key


@pytest.fixture
def on_rank(monkeypatch):
    """A function that builds a sampler as if on a rank."""

    def function(cls, rank, world_size, size=7, **kwargs):
        module = 'mmengine.dataset.sampler' if issubclass(
            cls, InfiniteKeyedSampler) else \
            'mmeffmae.datasets.samplers.keyed_sampler'
        monkeypatch.setattr(f'{module}.get_dist_info',
                            lambda: (rank, world_size))
        return cls(range(size), seed=3, **kwargs)

    return function


def keys(indices) -> list[tuple[int, int]]:
    return [(int(i), i.key) for i in indices]


def test_epochs_are_different_permutations(on_rank):
    sampler = on_rank(KeyedSampler, 0, 1)
    epochs = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert sorted(epochs[-1]) == list(range(7))
        assert len(sampler) == 7
    assert epochs[0] != epochs[1]
    assert len({i.key for e in epochs for i in e}) == 14
    sampler.set_epoch(0)
    assert keys(sampler) == keys(epochs[0])


def test_ranks_share_the_epoch_of_one_process(on_rank):
    whole = keys(on_rank(KeyedSampler, 0, 1, round_up=False))
    for rank in (0, 1):
        sampler = on_rank(KeyedSampler, rank, 2, round_up=False)
        assert keys(sampler) == whole[rank::2]
        assert len(sampler) == len(whole[rank::2])
    # Rounded up, the last rank repeats the first image with a new key.
    last = list(on_rank(KeyedSampler, 1, 2))[-1]
    assert last == whole[0][0]
    assert last.key != whole[0][1]


def test_infinite_stream_is_the_epochs_in_turn(on_rank):
    stream = keys(islice(on_rank(InfiniteKeyedSampler, 0, 1), 21))
    epochs = on_rank(KeyedSampler, 0, 1)
    for epoch in range(3):
        epochs.set_epoch(epoch)
        assert stream[7 * epoch:7 * epoch + 7] == keys(epochs)
    for rank in (0, 1):
        sampler = on_rank(InfiniteKeyedSampler, rank, 2)
        assert keys(islice(sampler, 10)) == stream[rank:20:2]
        sampler.skip(4)
        assert keys(islice(sampler, 6)) == stream[rank:20:2][4:]


def test_orders_of_neighbouring_seeds_and_epochs_differ():
    """mmengine adds them up, and seed 0 in epoch 1 equals seed 1 in epoch 0."""
    orders = set()
    for seed in (0, 1):
        sampler = KeyedSampler(range(50), seed=seed)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            orders.add(tuple(sampler))
    assert len(orders) == 4


@pytest.mark.parametrize('cls', [KeyedSampler, InfiniteKeyedSampler])
def test_empty_dataset_is_refused(cls):
    with pytest.raises(ValueError, match='is empty .* data_root'):
        cls([], seed=0)


def test_key_is_fixed_and_reaches_workers_and_wrapped_datasets():
    # Checkpoints of older versions resume only while this value stands.
    assert mix_key(0, 1, 2) == 4450782424123420391
    index = KeyedIndex(9, (0, 1, 2))
    assert isinstance(index, int)
    for other, value in ((pickle.loads(pickle.dumps(index)), 9),
                         (index - 4, 5), (index % 4, 1)):
        assert (other, other.key) == (value, mix_key(0, 1, 2))


def test_seed_sample_seeds_every_generator(image_folder):
    drawn = []

    def draw(results):
        drawn.append((results['sample_idx'], np.random.rand(),
                      float(torch.rand(()))))
        return results

    dataset = UnlabelledImages(
        data_root=str(image_folder), pipeline=[SeedSample(), draw])
    index = KeyedIndex(2, (0, 0, 5))
    for data in (dataset, RepeatDataset(dataset, 2),
                 ConcatDataset([dataset, dataset])):
        data[index]
        data[KeyedIndex(2 + len(data) - 12, (0, 0, 5))]
    assert len(drawn) == 6
    assert len(set(drawn)) == 1
    dataset[KeyedIndex(2, (0, 0, 6))]
    assert drawn[-1][1:] != drawn[0][1:]

    torch.manual_seed(0)
    expected = torch.rand(2)[1]
    torch.manual_seed(0)
    torch.rand(())
    SeedSample()(dict(sample_idx=2))
    assert torch.rand(()) == expected
