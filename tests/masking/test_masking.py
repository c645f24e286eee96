# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch

from mmeffmae.masking import (
    ComplementaryMasking,
    MaskPlan,
    ParallelMasking,
    RandomMasking,
    gather_views,
    replace_tokens,
    scatter_tokens,
)


@pytest.fixture
def noise():
    return torch.rand(5, 4, 7, generator=torch.Generator().manual_seed(0))


def test_random_masking_keeps_the_smallest_noise():
    noise = torch.tensor([[[.9, .1, .5], [.3, .7, .2]]])
    plan = RandomMasking(0.5)(noise)
    assert plan.ids_keep.tolist() == [[[1, 5, 3]]]
    assert plan.ids_predict.tolist() == [[[2, 4, 0]]]
    assert plan.grid == (2, 3)
    assert plan.visible.tolist() == [[[False, True, False, True, False, True]]]
    assert torch.equal(plan.mask, ~plan.visible)


@pytest.mark.parametrize(
    'num, ratio, visible',
    [(196, .75, 49), (196, .9, 19), (100, .9, 10), (256, .75, 64), (196, .85, 29)])
def test_visible_counts(num, ratio, visible):
    plan = RandomMasking(ratio)(torch.rand(1, 1, num))
    assert plan.ids_keep.shape == (1, 1, visible)
    assert plan.ids_predict.shape == (1, 1, num - visible)


@pytest.mark.parametrize('ratio, chosen', [(.5, 73), (.25, 36), (1e-3, 1)])
def test_partial_decoding_predicts_any_masked_patch_alike(ratio, chosen):
    noise = torch.rand(400, 14, 14, generator=torch.Generator().manual_seed(0))
    whole, plan = RandomMasking()(noise), RandomMasking(decode_ratio=ratio)(noise)
    assert torch.equal(plan.ids_keep, whole.ids_keep)
    assert plan.ids_predict.shape == (400, 1, chosen)
    assert not (plan.mask & ~whole.mask).any() and not (plan.mask & plan.visible).any()
    if chosen > 1:
        share = plan.mask.float().mean((0, 1))
        assert (share - chosen / 196).abs().max() < .1
    with pytest.raises(ValueError, match='decode_ratio 0 .*RandomMasking'):
        RandomMasking(decode_ratio=0)


@pytest.mark.parametrize('side, parts', [(14, k) for k in range(2, 8)] + [(16, 4)])
def test_parallel_parts_are_disjoint(side, parts):
    plan = ParallelMasking(parts)(torch.rand(3, side, side))
    num = side * side
    visible = num // parts
    seen = plan.visible.sum(1)
    assert plan.ids_keep.shape == (3, parts, visible)
    assert seen.max() == 1 and seen.sum() == 3 * parts * visible
    assert torch.equal(plan.mask, ~plan.visible)
    both = (plan.mask[:, 0] & plan.mask[:, -1]).sum(-1)
    assert both.tolist() == [num - 2 * visible] * 3
    assert not torch.equal(plan.visible[0], plan.visible[1])


def test_parallel_of_one_part_is_random(noise):
    one, random = ParallelMasking(1, 0.75)(noise), RandomMasking(0.75)(noise)
    assert torch.equal(one.ids_keep, random.ids_keep)
    assert torch.equal(one.ids_predict, random.ids_predict)


@pytest.mark.parametrize('parts, ratio, chosen', [(4, .25, 1), (4, .6, 4), (5, .4, 2)])
def test_a_share_of_every_part_is_predicted_by_all_others(noise, parts, ratio, chosen):
    plan = ParallelMasking(parts, decode_ratio=ratio)(noise)
    assert torch.equal(plan.ids_keep, ParallelMasking(parts)(noise).ids_keep)
    assert plan.ids_predict.shape == (5, parts, (parts - 1) * chosen)
    assert not (plan.mask & plan.visible).any()
    # Each part has that many candidates, and its own are the ones it misses.
    candidates = plan.mask.any(1, keepdim=True)
    assert ((candidates & plan.visible).sum(-1) == chosen).all()
    assert torch.equal(plan.mask, candidates & ~plan.visible)
    assert candidates.sum() == 5 * plan.num_candidates == 5 * parts * chosen
    both = plan.mask[:, 0] & plan.mask[:, -1]
    assert (both.sum(-1) == plan.pair_overlap).all()
    assert plan.pair_overlap == (parts - 2) * chosen


def test_decoding_everything_is_the_default(noise):
    for parts in (4, 5):
        whole = ParallelMasking(parts, decode_ratio=1.)(noise)
        default = ParallelMasking(parts)(noise)
        assert torch.equal(whole.ids_predict, default.ids_predict)
        assert whole.chosen_per_part is default.chosen_per_part is None
        assert whole.ids_predict.size(-1) == 28 - 28 // parts


def test_complementary_views_share_the_complement(noise):
    plan = ComplementaryMasking(2, 0.75)(noise)
    used = plan.visible.any(1)
    assert plan.ids_keep.shape == (5, 2, 7) and plan.ids_predict.shape == (5, 2, 14)
    assert torch.equal(plan.mask[:, 0], ~used)
    assert torch.equal(plan.ids_predict[:, 0], plan.ids_predict[:, 1])
    one = ComplementaryMasking(1, 0.75)(noise)
    assert torch.equal(one.ids_predict, RandomMasking(0.75)(noise).ids_predict)


def test_gather_scatter_and_restore_are_inverse(noise):
    plan = ParallelMasking(3)(noise)
    tokens = torch.rand(5, 28, 2)
    kept, rest = (gather_views(tokens, i) for i in (plan.ids_keep, plan.ids_predict))
    # Row b·K + k belongs to view k of image b.
    assert torch.equal(kept[4, 2], tokens[1, plan.ids_keep[1, 1, 2]])
    order = plan.ids_restore.flatten(0, 1).unsqueeze(-1).expand(-1, -1, 2)
    restored = torch.cat([kept, rest], 1).gather(1, order)
    assert torch.equal(restored, tokens.repeat_interleave(3, 0))
    back = scatter_tokens(kept, plan.ids_keep.flatten(0, 1), 28)
    shown = plan.visible.flatten(0, 1).unsqueeze(-1)
    assert torch.equal(back, tokens.repeat_interleave(3, 0) * shown)
    painted = replace_tokens(tokens, plan.ids_predict, torch.zeros_like(rest))
    assert torch.equal(painted, back)


@pytest.mark.parametrize(
    'parts, ratio, left_over',
    [(4, 1., 0), (3, 1., 1), (5, 1., 3), (4, .5, 0), (5, .5, 0)])
def test_groups_hold_every_prediction_once(noise, parts, ratio, left_over):
    plan = ParallelMasking(parts, decode_ratio=ratio)(noise)
    predicted = plan.ids_predict.flatten(1)
    groups = plan.groups_of_same_patch()
    assert [g.shape[2] for g in groups] == [parts - 1] + [parts] * bool(left_over)
    for group in groups:
        ids = predicted.gather(1, group.flatten(1)).view_as(group)
        assert (ids == ids[..., :1]).all()
    places = torch.cat([g.flatten(1) for g in groups], 1).sort(1).values
    assert torch.equal(places, torch.arange(predicted.size(1)).expand(5, -1))


@pytest.mark.parametrize(
    'masking, message',
    [(RandomMasking(0.99), r'mask_ratio 0.99 leaves no visible patch of 28.*0\.964'),
     (RandomMasking(0.), r'masks none of 28 patches'),
     (ParallelMasking(29), r'num_parts 29 of 28 patches.*use 2 to 28'),
     (ParallelMasking(1), r'num_parts 1 of 28 patches'),
     (ParallelMasking(5, 0.75), r'num_parts 5 of 7 visible.*use 1 to 4 parts'),
     (ComplementaryMasking(4, 0.75), r'complement is empty')])
def test_impossible_masks_are_refused(noise, masking, message):
    with pytest.raises(ValueError, match=message):
        masking(noise)


@pytest.mark.parametrize(
    'parts, ratio, message',
    [(4, 0., 'decode_ratio 0.0.*above 0'), (4, 1.2, 'decode_ratio 1.2'),
     (1, .5, 'decode_ratio 0.5 with num_parts 1.*two parts')])
def test_impossible_decode_ratios_are_refused(parts, ratio, message):
    with pytest.raises(ValueError, match=message):
        ParallelMasking(parts, .75, ratio)


def test_groups_refuse_overlapping_views():
    ids = torch.arange(4).expand(1, 2, 4)
    plan = MaskPlan(ids[..., :2], ids[..., 2:3], (2, 2))
    with pytest.raises(ValueError, match='ParallelMasking'):
        plan.groups_of_same_patch()
    with pytest.raises(ValueError, match='ids_restore'):
        _ = plan.ids_restore


def test_other_predictions_are_no_longer_the_chosen_ones(noise):
    plan = ParallelMasking(4, decode_ratio=.5)(noise)
    with pytest.raises(ValueError, match='ParallelMasking'):
        plan.with_predict(plan.ids_predict[..., 1:]).groups_of_same_patch()
