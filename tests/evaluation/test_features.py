# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import contextlib
import random

import numpy as np
import pytest
import torch
from mmpretrain.models import SelfSupDataPreprocessor
from mmpretrain.structures import DataSample
from torch import nn

from mmeffmae.evaluation import (
    extract_features,
    isolated_rng,
    labelled_dataloader,
    pool_features,
)


class Photographs(torch.utils.data.Dataset):
    """Image i is filled with the value i and has the label i % 3."""

    def __init__(self, count, label=True):
        self.count = count
        self.label = label

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        sample = DataSample()
        if self.label:
            sample.set_gt_label(index % 3)
        image = torch.full((3, 4, 4), index, dtype=torch.uint8)
        return dict(inputs=image, data_samples=sample)


class Backbone(nn.Module):
    """Drop-out and a norm that training keeps in eval mode."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm2d(3).eval()

    def forward(self, images):
        return None, self.frozen(self.drop(images))


def test_pooling_rule():
    maps = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert pool_features((None, maps)).tolist() == [[1.5, 5.5]]
    assert pool_features(torch.arange(6.0).reshape(1, 3, 2)).tolist() == [[
        2.0, 3.0
    ]]
    vectors = torch.ones(1, 2, dtype=torch.float16)
    assert pool_features([vectors]).dtype == torch.float32
    with pytest.raises(ValueError, match=r'\(2,\).*out_type'):
        pool_features([torch.ones(2)])


def test_features_are_normalised_in_order_and_leave_no_trace():
    backbone = Backbone()
    preprocessor = SelfSupDataPreprocessor([10.0] * 3, [2.0] * 3)
    state = torch.get_rng_state()
    loader = labelled_dataloader(Photographs(7), batch_size=3)
    features, labels = extract_features(backbone, loader, 'cpu', preprocessor)
    torch.testing.assert_close(
        features, ((torch.arange(7.0) - 10) / 2)[:, None].expand(7, 3),
        rtol=1e-4, atol=1e-4)
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert labels.dtype == torch.int64 and not features.requires_grad
    assert backbone.training and backbone.drop.training
    assert not backbone.frozen.training
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize('dataset, message', [
    (Photographs(2, label=False), 'label'),
    (Photographs(0), 'holds no image'),
])
def test_unusable_dataset_is_named(dataset, message):
    with pytest.raises(ValueError, match=message):
        extract_features(Backbone(), labelled_dataloader(dataset), 'cpu',
                         SelfSupDataPreprocessor())


def test_images_of_different_sizes_are_named():
    samples = Photographs(1)[0], Photographs(1)[0]
    samples[1]['inputs'] = torch.zeros(3, 4, 5)
    with pytest.raises(ValueError, match=r'\(3, 4, 4\) and \(3, 4, 5\)'):
        next(iter(labelled_dataloader(samples)))


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_isolated_rng_restores_every_stream():
    with isolated_rng(seed=1):
        seeded = draw()
        with isolated_rng():
            following = draw()
        assert draw() == following
        with contextlib.suppress(RuntimeError), isolated_rng(seed=1):
            assert draw() == seeded
            raise RuntimeError
        assert draw() != following
