# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch

from mmeffmae.datasets import UniformMaskGenerator
from mmeffmae.masking import UniformMasking, WholeImageMasking
from mmeffmae.masking.uniform import split_cells


def draw(batch=3, rows=16, cols=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, rows, cols, generator=generator)


def test_hand_checked_cells():
    # Fractions of 1/4096 decide what is hidden: .5 of it in the first cell,
    # nothing in the second.
    noise = torch.tensor([[[.75, .25 + .5 / 4096, .5, .75], [.5, .625, .125, .25]]])
    plan = UniformMasking(.5)(noise)
    # First cell: patches 0, 1, 4, 5; second: 2, 3, 6, 7.
    assert plan.ids_keep.tolist() == [[[1, 6]]]
    assert sorted(plan.ids_predict[0, 0].tolist()) == [0, 2, 3, 4, 5, 7]
    assert plan.hidden.tolist() == [[[True, False]]]
    assert plan.grid == (2, 4) and plan.cell == 2


@pytest.mark.parametrize('balanced', [False, True])
@pytest.mark.parametrize('rows, cols, hidden', [(16, 16, 16), (14, 14, 13), (8, 4, 2)])
def test_one_patch_of_every_cell_and_exact_counts(rows, cols, hidden, balanced):
    plan = UniformMasking(.25, num_parts=4, balanced=balanced)(draw(3, rows, cols))
    cells = split_cells(plan.visible.unflatten(-1, (rows, cols)))
    assert (cells.sum(-1) == 1).all()
    # Slots are in the order of the cells.
    assert torch.equal(
        plan.ids_keep, split_cells(torch.arange(rows * cols).view(rows, cols))
        .expand(3, 4, -1, -1)[cells].view(3, 4, -1))
    assert (plan.visible.sum(1) == 1).all()  # four parts are the image
    assert (plan.hidden.sum(-1) == hidden).all()
    assert torch.equal(plan.mask, ~plan.visible)


def test_parts_hide_different_cells_and_the_first_is_the_only_part():
    noise = draw(64)
    plan = UniformMasking(.25, num_parts=2)(noise)
    alone = UniformMasking(.25)(noise)
    assert torch.equal(plan.ids_keep[:, :1], alone.ids_keep)
    assert torch.equal(plan.hidden[:, :1], alone.hidden)
    both = plan.hidden.all(1).float().mean()
    assert .05 < both < .075  # independent: 1/16


@pytest.mark.parametrize('balanced, low, high', [(False, 2.9, 4.1), (True, 2., 2.9)])
def test_spread_of_the_four_places(balanced, low, high):
    """The pool's counts spread by 2.46, independent draws' by 3.46."""
    plan = UniformMasking(0, balanced=balanced)(draw(400))
    rows, cols = plan.ids_keep[:, 0] // 16 % 2, plan.ids_keep[:, 0] % 2
    counts = torch.stack([(2 * rows + cols == i).sum(-1) for i in range(4)]).float()
    assert low < counts.std() < high
    assert abs(counts.mean(1) - 16).max() < .7
    assert counts.max() <= (32 if balanced else 64)
    assert plan.hidden is None


def test_masks_of_the_transform_make_the_same_plan():
    torch.manual_seed(3)
    mask = UniformMaskGenerator((4, 6), num_parts=2).transform({})['mask']
    torch.manual_seed(3)
    drawn = UniformMasking(.25, num_parts=2)(torch.rand(1, 4, 6))
    assert mask.shape == (2, 4, 6) and mask.dtype == torch.bool
    plan = UniformMasking(.25, from_samples=True).plan_of(mask[None], draw(1, 4, 6))
    assert torch.equal(plan.ids_keep, drawn.ids_keep)
    assert torch.equal(plan.mask, drawn.mask)
    assert (plan.hidden.sum(-1) == 2).all()


def test_masks_that_do_not_fit_are_refused():
    masking = UniformMasking(from_samples=True)
    with pytest.raises(ValueError, match=r'exactly one patch of a 2x2 cell'):
        masking.plan_of(torch.zeros(1, 1, 4, 4), draw(1, 4, 4))
    with pytest.raises(ValueError, match=r'\(1, 1, 8, 8\).*grid of \(4, 4\)'):
        masking.plan_of(torch.ones(1, 1, 8, 8), draw(1, 4, 4))


@pytest.mark.parametrize('build, message', [
    (lambda: UniformMasking(num_parts=5), 'num_parts 5.*1 to 4 parts'),
    (lambda: UniformMasking(1.), 'hidden_ratio 1.0'),
    (lambda: UniformMasking(-.1), 'hidden_ratio -0.1'),
    (lambda: UniformMasking(.9)(draw(1, 4, 4)), 'leaves 0 of 4 visible'),
    (lambda: UniformMasking()(draw(1, 4, 5)), r'grid of \(4, 5\) patches.*2x2 cells'),
    (lambda: UniformMaskGenerator(7), r'grid of \(7, 7\) patches.*2x2 cells'),
])
def test_impossible_masks_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_whole_image_masking_hides_what_it_predicts():
    plan = WholeImageMasking(.75)(draw(2, 4, 4))
    assert plan.ids_keep.tolist() == [[list(range(16))]] * 2
    assert plan.cell == 1 and plan.ids_predict.shape == (2, 1, 12)
    assert torch.equal(plan.hidden, plan.mask)
