# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from itertools import combinations

import pytest
import torch
from torch.nn import functional as F

from mmeffmae.masking import MaskPlan, ParallelMasking, scatter_tokens
from mmeffmae.models import SelfConsistencyLoss

NAIVE = dict(
    l1=F.l1_loss, l2=F.mse_loss, smooth_l1=F.smooth_l1_loss)


def naive(pred, plan, distance, normalization, pair_reduction):
    """All pairs, on full maps."""
    ids = plan.ids_predict.flatten(0, 1)
    maps = scatter_tokens(pred, ids, plan.num_patches)
    maps = maps.unflatten(0, (plan.num_images, plan.num_views))
    values, everywhere = [], plan.mask.any(1).sum(-1)[0]
    for i, j in combinations(range(plan.num_views), 2):
        both = (plan.mask[:, i] & plan.mask[:, j])[..., None]
        total = (NAIVE[distance](maps[:, i], maps[:, j], reduction='none') * both).sum()
        overlap = both[0].sum()
        size = overlap if normalization == 'overlap' else everywhere
        values.append(total / (plan.num_images * size * pred.size(-1)))
    values = torch.stack(values)
    return values.mean() if pair_reduction == 'mean' else values.sum()


@pytest.mark.parametrize('decode_ratio', [1., .5])
@pytest.mark.parametrize('parts', [3, 4, 5, 6])
@pytest.mark.parametrize('distance', ['l1', 'l2', 'smooth_l1'])
@pytest.mark.parametrize(
    'normalization, pair_reduction', [('all', 'mean'), ('overlap', 'sum')])
def test_equals_the_naive_form(
        parts, distance, normalization, pair_reduction, decode_ratio):
    generator = torch.Generator().manual_seed(0)
    masking = ParallelMasking(parts, decode_ratio=decode_ratio)
    plan = masking(torch.rand(2, 4, 5, generator=generator))
    pred = torch.randn(
        2 * parts, plan.ids_predict.size(-1), 3, generator=generator,
        dtype=torch.float32, requires_grad=True)
    loss = SelfConsistencyLoss(1.5, distance, normalization, pair_reduction)
    value = loss(pred, plan)[0]
    expected = 1.5 * naive(pred, plan, distance, normalization, pair_reduction)
    torch.testing.assert_close(value, expected)
    ours, = torch.autograd.grad(value, pred)
    theirs, = torch.autograd.grad(expected, pred)
    torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-5)


def test_hand_computed_and_reported_distance():
    """Three parts of one patch each; patch 2 is predicted 0 and 6."""
    plan = MaskPlan(
        torch.tensor([[[0], [1], [2]]]),
        torch.tensor([[[1, 2], [2, 0], [0, 1]]]), (1, 3))
    pred = torch.tensor([[[1.], [0.]], [[6.], [2.]], [[2.], [1.]]])
    # Pairs overlap in one patch each: |0 - 6|, |2 - 2| and |1 - 1|.
    loss, distance = SelfConsistencyLoss()(pred, plan)
    assert distance.item() == pytest.approx(2.)
    assert loss.item() == pytest.approx(6 / 3 / 3)


@pytest.mark.parametrize('parts', [4, 5])
@pytest.mark.parametrize('distance', ['l1', 'l2', 'smooth_l1'])
def test_autocast_leaves_it_in_fp32(parts, distance):
    plan = ParallelMasking(parts)(torch.rand(2, 4, 5))
    pred = torch.randn(2 * parts, plan.ids_predict.size(-1), 3)
    loss = SelfConsistencyLoss(distance=distance)
    expected = loss(pred, plan)[0]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(pred, plan)[0]
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0.)


def test_no_overlap_is_zero_and_finite():
    plan = ParallelMasking(2)(torch.rand(2, 4, 4))
    pred = torch.randn(4, 8, 3, requires_grad=True)
    loss, distance = SelfConsistencyLoss(normalization='overlap')(pred, plan)
    assert loss == 0 and distance == 0


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="distance 'cosine'.*l1"):
        SelfConsistencyLoss(distance='cosine')
