# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch
from mmpretrain.models import SelfSupDataPreprocessor as Stock

from mmeffmae.models import SelfSupDataPreprocessor
from mmeffmae.registry import MODELS

STATISTICS = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


@pytest.mark.parametrize('settings', [
    dict(STATISTICS, to_rgb=True), dict(to_rgb=True), STATISTICS, {}])
@pytest.mark.parametrize('views', [0, 2])
def test_equals_mmpretrains_to_the_bit(settings, views):
    images = torch.randint(0, 256, (2, 3, 8, 6), dtype=torch.uint8)
    inputs = [images, images + 1][:views] or images
    ours, theirs = (
        kind(**settings)(dict(inputs=inputs, data_samples=None))
        for kind in (SelfSupDataPreprocessor, Stock))
    assert ours.keys() == theirs.keys() and ours['data_samples'] is None
    assert all(map(torch.equal, ours['inputs'], theirs['inputs']))


def test_data_samples_stay_where_they_are():
    samples = [object()]
    data = SelfSupDataPreprocessor(to_rgb=True)(
        dict(inputs=torch.zeros(1, 3, 8, 8, dtype=torch.uint8), data_samples=samples))
    assert data['data_samples'] is samples


@pytest.mark.parametrize('given', [
    None, STATISTICS, dict(type='mmpretrain.SelfSupDataPreprocessor', **STATISTICS)])
def test_pretrainers_take_it_for_mmpretrains(given):
    model = MODELS.build(dict(
        type='mmeffmae.MaskedAutoencoder', data_preprocessor=given,
        backbone=dict(
            type='mmeffmae.MaskedViT', img_size=16, patch_size=8,
            arch=dict(embed_dims=8, num_layers=1, num_heads=1,
                      feedforward_channels=8)),
        neck=dict(type='mmeffmae.MaskedDecoder', decoder_embed_dim=8,
                  decoder_depth=1, decoder_num_heads=1),
        head=dict(type='mmeffmae.PixelHead'),
        masking=dict(type='mmeffmae.RandomMasking')))
    assert type(model.data_preprocessor) is SelfSupDataPreprocessor
    assert hasattr(model.data_preprocessor, 'mean') == (given is not None)
