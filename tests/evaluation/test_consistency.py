# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmpretrain.models import SelfSupDataPreprocessor
from torch import nn

from mmeffmae.evaluation.consistency import (
    compare,
    evenly_spaced,
    mean_pairwise_distance,
    measure_consistency,
    summarise,
)
from mmeffmae.models import MaskedAutoencoder, PixelHead


class Photographs(torch.utils.data.Dataset):
    """Noise of 4 x 4 pixels."""

    images = torch.randint(
        0, 255, (5, 3, 4, 4), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return dict(inputs=self.images[index].byte(), data_samples=None)


class Fake(nn.Module):
    """Predicts what ``answer(plan, call)`` says, ``(B, K, P)``."""

    def __init__(self, answer, norm_pix=True):
        super().__init__()
        self.answer, self.calls = answer, 0
        self.head = PixelHead(patch_size=2, norm_pix=norm_pix)
        self.backbone = SimpleNamespace(patch_grid=lambda size: (2, 2))
        self.data_preprocessor = SelfSupDataPreprocessor([0.0] * 3, [1.0] * 3)

    def predict(self, images, plan):
        values = self.answer(plan, self.calls).float()
        self.calls += 1
        return values.flatten(0, 1)[..., None].expand(-1, -1, 12)


def measure(model, **options):
    options.setdefault('batch_size', 5)
    return measure_consistency(model, Photographs(), range(5), **options)


def test_distance_is_the_mean_over_pairs():
    values = torch.randn(
        2, 7, 3, generator=torch.Generator().manual_seed(0))
    pairs = [(values[:, a] - values[:, b]).abs()
             for a, b in combinations(range(7), 2)]
    torch.testing.assert_close(
        mean_pairwise_distance(values), torch.stack(pairs).mean(0))


def test_equal_predictions_of_a_patch_are_consistent():
    values = measure(Fake(lambda plan, call: plan.ids_predict), num_parts=2)
    assert values['mad'].max() == 0 and values['variance'].max() == 0


def test_parts_that_disagree():
    """Part k answers k: a patch has three of 0, 1, 2, 3, each left out once.
    Pairs of 1, 2, 3 and of 0, 1, 2 are 4/3 apart, of 0, 2, 3 and 0, 1, 3 two;
    their variances are 1 and 7/3."""

    def answer(plan, call):
        parts = torch.arange(4)[None, :, None]
        return parts.expand_as(plan.ids_predict)

    values = measure(Fake(answer), partitions=1)
    assert values['mad'] == pytest.approx(5 / 3)
    assert values['variance'] == pytest.approx((1 + 7 / 3) / 2)


def test_partitions_that_disagree_and_the_error():
    """Two partitions answer 0 and 1. Targets have mean 0 and, over 12 values,
    mean square 11/12, so the error is 11/12 and 11/12 + 1."""

    def answer(plan, call):
        return torch.full_like(plan.ids_predict, call)

    values = measure(Fake(answer), partitions=2, num_parts=2)
    assert values['mad'] == pytest.approx(1)
    assert values['variance'] == pytest.approx(0.5)
    assert values['mse'] == pytest.approx(11 / 12 + 0.5, rel=1e-4)


def test_unnormalised_pixels_are_measured_in_the_same_space():
    values = measure(
        Fake(lambda plan, call: torch.full_like(plan.ids_predict, call), False),
        partitions=2, num_parts=2)
    patches = PixelHead(2).patchify(Photographs.images.float())
    scale = (1 / patches.std(dim=-1)).mean(dim=1).numpy()
    assert values['mad'] == pytest.approx(scale, rel=1e-4)


def test_batches_do_not_matter_and_seeds_do():
    torch.manual_seed(0)
    model = MaskedAutoencoder(
        dict(type='mmeffmae.MaskedViT', img_size=4, patch_size=1,
             arch=dict(embed_dims=16, num_layers=1, num_heads=2,
                       feedforward_channels=32)),
        dict(type='mmeffmae.MaskedDecoder', decoder_embed_dim=16,
             decoder_depth=1, decoder_num_heads=2),
        dict(type='mmeffmae.PixelHead'),
        dict(type='mmeffmae.RandomMasking', mask_ratio=0.5),
        dict(mean=[100.0] * 3, std=[50.0] * 3))
    state = torch.get_rng_state()
    whole, halves, other = (
        measure(model, partitions=2, **options)['mad']
        for options in (dict(), dict(batch_size=2), dict(seed=1)))
    np.testing.assert_allclose(whole, halves, rtol=1e-4)
    assert not np.allclose(whole, other, rtol=1e-3)
    assert torch.equal(state, torch.get_rng_state())


def values_of(mad, mse):
    mad, mse = np.asarray(mad, float), np.asarray(mse, float)
    return dict(mad=mad, variance=mad / 2, mse=mse)


def test_intervals():
    numbers = summarise(values_of([2, 2, 2], [4, 4, 4]))
    assert numbers['mad_over_mse'] == dict(value=0.5, low=0.5, high=0.5)
    assert numbers['variance_over_mse']['value'] == 0.25
    spread = summarise(values_of(np.arange(100), np.ones(100)))['mad']
    # Mean 49.5, standard error 28.9 / 10.
    assert spread['value'] == 49.5
    assert spread['low'] == pytest.approx(49.5 - 1.96 * 2.89, abs=0.3)
    assert spread['high'] == pytest.approx(49.5 + 1.96 * 2.89, abs=0.3)


def test_models_are_compared_photograph_by_photograph():
    """Photographs differ far more than the models do."""
    mad = np.arange(1.0, 101.0)
    paired = compare(values_of(mad, mad), values_of(2 * mad, mad))
    ratio = paired['mad']['ratio']
    assert ratio == dict(value=0.5, low=0.5, high=0.5)
    assert paired['mse']['difference'] == dict(value=0, low=0, high=0)
    assert paired['mad']['difference']['high'] < 0
    with pytest.raises(ValueError, match='100 and 3 photographs'):
        compare(values_of(mad, mad), values_of([1, 2, 3], [1, 1, 1]))


def test_photographs_are_evenly_spaced():
    assert evenly_spaced(10, 5) == [1, 3, 5, 7, 9]
    assert evenly_spaced(3, 500) == [0, 1, 2]


@pytest.mark.parametrize('options, message', [
    (dict(num_parts=3), '3 parts do not divide the 2 x 2'),
    (dict(num_parts=2, partitions=1), 'less than two predictions'),
])
def test_unfit_partitions_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        measure(Fake(lambda plan, call: plan.ids_predict), **options)
