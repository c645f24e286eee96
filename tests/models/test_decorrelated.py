# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Decorrelated layers against ordinary ones, and their learning rule."""
import math

import pytest
import torch
from mmcv.cnn import Linear as MMCVLinear
from mmengine.model import initialize
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mmeffmae.masking import RandomMasking, UniformMasking
from mmeffmae.models.layers import ConvStem
from mmeffmae.models.layers.decorrelated import (
    RowSampler,
    decorrelated,
    project_fields,
)
from mmeffmae.models.layers.decorrelated_update import (
    decorrelation_monitors,
    gather_is_cheaper,
    second_moments,
    update_from_moments_,
    update_from_rows_,
)
from mmeffmae.registry import MODELS

LAYERS = dict(
    linear=(lambda: nn.Linear(12, 5), (3, 4, 12)),
    mmcv=(lambda: MMCVLinear(12, 5, bias=False), (7, 12)),
    patches=(lambda: nn.Conv2d(3, 5, 2, stride=2), (2, 3, 4, 6)),
    overlapping=(lambda: nn.Conv2d(3, 5, 3, stride=2, padding=1), (2, 3, 6, 4)))


def outputs_and_gradients(layer, x):
    x = x.clone().requires_grad_()
    y = layer(x)
    y.sin().sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters())]


def shuffled(layer, blocks=1):
    """A decorrelated layer whose R is not the identity."""
    form = decorrelated(layer, blocks)
    form.decorrelation += .3 * torch.randn_like(form.decorrelation)
    return form


def keep_all(layer, total):
    """Let the layer keep every row: one stratum each."""
    layer.sampler = RowSampler(total, layer.weight.device)
    layer.sampler.draw(0)
    layer.sampler.is_open = True


@pytest.mark.parametrize('name', LAYERS)
def test_identity_changes_nothing_to_the_bit(name):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    plain, x = make(), torch.randn(shape)
    expected = outputs_and_gradients(plain, x)
    names, weight = list(plain.state_dict()), plain.weight
    plain.zero_grad()
    state = torch.get_rng_state()
    layer = decorrelated(plain)
    assert torch.equal(state, torch.get_rng_state())
    assert layer.weight is weight and decorrelated(layer) is layer
    assert list(layer.state_dict()) == names
    assert [n for n, _ in layer.named_parameters()] == names
    for ours, theirs in zip(outputs_and_gradients(layer, x), expected):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('blocks', [1, 3])
def test_fused_equals_unfused(blocks):
    torch.manual_seed(0)
    layer, x = shuffled(nn.Linear(12, 5), blocks), torch.randn(7, 12)
    matrix = torch.block_diag(*layer.decorrelation)
    _, grad_x, grad_w, grad_b = outputs_and_gradients(layer, x)
    z = (x @ matrix.T).requires_grad_()
    weight = layer.weight.detach().clone().requires_grad_()
    y = F.linear(z, weight, layer.bias)
    y.sin().sum().backward()
    assert torch.allclose(layer(x), y, atol=1e-6)
    assert torch.allclose(grad_w, weight.grad, atol=1e-5)
    assert torch.allclose(grad_x, z.grad @ matrix, atol=1e-5)
    fused = layer.fused_weight().detach().requires_grad_()
    F.linear(x, fused, layer.bias).sin().sum().backward()
    assert torch.allclose(grad_w, fused.grad @ matrix.T, atol=1e-5)


def test_convolution_equals_unfused_and_keeps_its_fields():
    torch.manual_seed(0)
    layer = shuffled(nn.Conv2d(3, 5, 3, stride=2, padding=1))
    nn.init.ones_(layer.bias)
    x = torch.randn(2, 3, 6, 4)
    fields = F.unfold(x, 3, stride=2, padding=1).transpose(1, 2)
    keep_all(layer, 2 * 3 * 2)
    y = layer(x)
    z = fields @ layer.decorrelation[0].T
    expected = F.linear(z, layer.weight.flatten(1), layer.bias)
    assert torch.allclose(y.flatten(2).transpose(1, 2), expected, atol=1e-5)
    assert torch.equal(layer.rows[0], fields.flatten(0, 1))
    assert torch.allclose(project_fields(layer, fields), expected, atol=1e-5)


@pytest.mark.parametrize('kind', ['overlap2', 'patch2', 'early4'])
def test_stem_on_visible_patches(kind):
    """Its windows are in an order of their own, R is in that of the image."""
    torch.manual_seed(0)
    stem = ConvStem(8, 16, input_size=32, kind=kind)
    plain = ConvStem(8, 16, input_size=32, kind=kind)
    for stage in stem.stages:
        stage.conv = shuffled(stage.conv)
    plain.load_state_dict(stem.state_dict())
    images = torch.randn(2, 3, 32, 32)
    images[:, :, :8, :8] = 0.
    noise = torch.ones(2, 4, 4)
    noise[:, 0, 0] = 2.  # the one that is masked
    plan = RandomMasking(.05)(noise)
    first = stem.stages[0].conv
    keep_all(first, 2 * 15 * (8 // first.stride[0])**2)
    visible = stem.embed_visible(images, plan)
    assert torch.allclose(visible, plain.embed_visible(images, plan), atol=1e-5)
    keep_all(first, 2 * 16 * (8 // first.stride[0])**2)
    stem(images)
    of_patches, of_images = ({tuple(row) for row in rows.tolist()}
                             for rows in first.rows)
    assert of_patches < of_images


ENCODERS = [
    (dict(type='MaskedViT', arch=dict(
        embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=64)),
     RandomMasking()),
    (dict(type='UMSwin', arch=dict(
        embed_dims=8, depths=[1] * 4, num_heads=[1] * 4, position_dims=4)),
     UniformMasking()),
    (dict(type='UMPVT', arch=dict(
        embed_dims=[8, 8, 16, 32], depths=[1] * 4, num_heads=[1, 1, 2, 2],
        mlp_ratios=[2] * 4, sr_ratios=[8, 4, 2, 1])), UniformMasking())]


@pytest.mark.parametrize('encoder, masking', ENCODERS)
def test_visible_patches_are_embedded_through_the_matrix(encoder, masking):
    torch.manual_seed(0)
    model = MODELS.build(dict(
        encoder, type=f'mmeffmae.{encoder["type"]}', img_size=32, patch_size=8))
    if getattr(masking, 'hides', False):
        model.add_mask_token()
    embed = model.patch_embed
    embed.projection = shuffled(embed.projection)
    images, plan = torch.randn(2, 3, 32, 32), masking(torch.rand(2, 4, 4))
    ours = model(images, plan)
    kernel = embed.projection.kernel_size
    plain = nn.Conv2d(3, embed.projection.out_channels, kernel, kernel)
    plain.load_state_dict(embed.projection.state_dict())
    embed.projection = plain
    assert torch.allclose(ours, model(images, plan), atol=1e-5)


@pytest.mark.parametrize('make', [
    lambda: nn.Conv2d(4, 4, 3, groups=2), lambda: nn.Conv2d(4, 4, 3, dilation=2),
    lambda: nn.Conv2d(4, 4, 3, padding='same'), lambda: decorrelated(
        nn.Linear(10, 2), blocks=3)])
def test_what_does_not_fit_is_refused(make):
    with pytest.raises(ValueError, match='groups, dilation|do not divide'):
        decorrelated(make())
    with pytest.raises(TypeError, match='LayerNorm has no decorrelated form'):
        decorrelated(nn.LayerNorm(3))


def test_state_dict_is_folded_and_loading_restarts():
    torch.manual_seed(0)
    layer, x = shuffled(nn.Linear(12, 5)), torch.randn(7, 12)
    plain = nn.Linear(12, 5)
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(plain(x), layer(x))
    with pytest.raises(RuntimeError, match='size mismatch'):
        layer.load_state_dict(nn.Linear(12, 6).state_dict())
    assert torch.equal(plain(x), layer(x))  # what does not fit changes nothing
    layer.load_state_dict(plain.state_dict())
    assert torch.equal(layer.decorrelation[0], torch.eye(12))
    assert torch.equal(plain(x), layer(x))


def test_evaluation_multiplies_once_and_follows_every_change():
    layer = shuffled(nn.Linear(6, 4)).eval()
    x = torch.randn(3, 6)

    def evaluated():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            out = layer(x)
        expected = F.linear(x, layer.weight @ layer.decorrelation[0], layer.bias)
        torch.testing.assert_close(out, expected)
        return counter.get_total_flops() - 2 * 3 * 6 * 4

    product = 2 * 4 * 6 * 6
    assert [evaluated() for _ in range(3)] == [product, 0, 0]
    for change in (lambda: layer.weight.detach().mul_(2),
                   lambda: layer.decorrelation.add_(.1),
                   lambda: layer.load_state_dict(layer.state_dict()),
                   lambda: layer.train().eval()):
        with torch.no_grad():
            change()
        assert [evaluated() for _ in range(2)] == [product, 0]
    assert layer(x).requires_grad and layer.train()._fused is None


def test_initialisation_by_layer_name_reaches_the_layer():
    layer = decorrelated(nn.Linear(3, 2))
    initialize(layer, dict(type='Constant', layer='Linear', val=2., bias=1.))
    assert (layer.weight == 2).all() and (layer.bias == 1).all()


def test_autocast_keeps_the_matrix_in_float32():
    torch.manual_seed(0)
    layer, x = shuffled(nn.Linear(64, 32)), torch.randn(16, 64)
    exact = layer(x)
    with torch.autocast('cpu', torch.bfloat16):
        y = layer(x)
        assert layer.fused_weight().dtype == torch.float32
    assert y.dtype == torch.bfloat16
    assert (y.float() - exact).norm() / exact.norm() < 5e-3


def test_sampler_draws_one_row_of_each_stratum():
    sampler = RowSampler(8, torch.device('cpu'))
    state = torch.get_rng_state()
    rows = []
    for seed in range(50):
        sampler.draw(seed)
        rows.append(sampler.choose(80))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(torch.stack(rows) // 10, torch.arange(8).expand(50, 8))
    assert len(torch.stack(rows)[:, 0].unique()) == 10
    sampler.draw(0)
    assert torch.equal(sampler.choose(80), rows[0])
    assert sampler.choose(3).max() <= 2
    sampler._places.fill_(1.)  # as rounding could make it
    assert sampler.choose(3).max() == 2


def matrices_and_rows(count, width=16, layers=3, dtype=torch.float32):
    torch.manual_seed(0)
    eye = torch.eye(width, dtype=dtype)
    matrices = eye + .1 * torch.randn(layers, width, width, dtype=dtype)
    return matrices, torch.randn(layers, count, width, dtype=dtype) + .3


def explicit_g(matrix, rows, kappa):
    z = rows @ matrix.T
    moments = z.T @ z / len(z)
    diagonal = moments.diag().diag()
    return (1 - kappa) * (moments - diagonal) + kappa * (
        diagonal - torch.eye(len(diagonal)))


@pytest.mark.parametrize('guard', [None, .5])
@pytest.mark.parametrize('kappa', [0., .3, 1.])
@pytest.mark.parametrize('count', [5, 40])
def test_update_is_the_rule(count, kappa, guard):
    """The row form of V, on matrices without symmetry; both associations."""
    before, rows = matrices_and_rows(count)
    after, reduced = before.clone(), before.clone()
    update_from_rows_(after, rows, .1, kappa, guard)
    update_from_moments_(
        reduced, second_moments(before, rows), .1, kappa, guard)
    for i, matrix in enumerate(before):
        g = explicit_g(matrix, rows[i], kappa)
        eta = .1 if guard is None else min(.1, guard / g.norm().item())
        expected = matrix - eta * g @ matrix
        assert torch.allclose(after[i], expected, atol=1e-6)
        assert torch.allclose(reduced[i], expected, atol=1e-6)


@pytest.mark.parametrize('kappa', [0., .5, 1.])
def test_norm_needs_no_matrix_of_the_width(kappa):
    """With η far above guard / |G|, the step says what the norm was."""
    before, rows = matrices_and_rows(5)
    after = before.clone()
    update_from_rows_(after, rows, 1e6, kappa, guard=1.)
    for i, matrix in enumerate(before):
        g = explicit_g(matrix, rows[i], kappa)
        assert torch.allclose(
            matrix - after[i], g @ matrix / g.norm(), atol=1e-6)


@pytest.mark.parametrize('count', [5, 40])
@pytest.mark.parametrize('bad', [math.nan, math.inf, 1e30])
def test_what_is_not_finite_changes_nothing(bad, count):
    before, rows = matrices_and_rows(count)
    rows[1, 2, 3] = bad
    after = before.clone()
    update_from_rows_(after, rows, .1, .5)
    assert torch.equal(after[1], before[1])
    assert not torch.equal(after[0], before[0])


@pytest.mark.parametrize('guard, stable', [(.5, True), (None, False)])
def test_too_large_a_rate_stays_stable(guard, stable):
    torch.manual_seed(0)
    width, count = 256, 512
    matrix = torch.eye(width)[None]
    for _ in range(500 if stable else 10):
        common = torch.randn(1, count, 1)
        rows = .5**.5 * (torch.randn(1, count, width) + common)
        update_from_rows_(matrix, rows, 1., .5, guard)
    assert bool(matrix.abs().max() < 10) is stable


def test_convergence_and_the_meaning_of_kappa():
    torch.manual_seed(0)
    mix = torch.eye(16) + .5 * torch.randn(16, 16) / 4
    rows = torch.randn(400, 16) @ mix
    found = {}
    for kappa in (0., .5, 1.):
        matrix = torch.eye(16)[None]
        for step in range(300):
            update_from_rows_(matrix, rows[None, step % 25::25], .05, kappa)
        found[kappa] = decorrelation_monitors(matrix, rows[None])
    before = decorrelation_monitors(torch.eye(16)[None], rows[None])
    covariance = {
        k: second_off_diagonal(v) for k, v in [(None, before), *found.items()]}
    assert covariance[0.] < covariance[None] / 10
    assert found[0.]['variance'] < before['variance'] * .9  # the price of κ = 0
    assert found[.5]['variance'] == pytest.approx(1, abs=.1)
    assert found[.5]['correlation'] < before['correlation'] / 3
    assert found[1.]['variance'] == pytest.approx(1, abs=.05)
    assert found[1.]['correlation'] > before['correlation'] / 2


def second_off_diagonal(monitors):
    """Mean square covariance, from coefficient and variance."""
    return float((monitors['correlation'] * monitors['variance'])**2)


@pytest.mark.parametrize('count', [3, 4000])
def test_monitors_by_hand(count):
    """z = (a, b) with correlation 0.6, variances 1 and 4."""
    torch.manual_seed(0)
    if count == 3:
        rows = torch.tensor([[1., 2.], [1., -2.], [1., 2.]])
        # M = [[1, 2/3], [2/3, 4]], coefficient 1/3; less chance: (3/9 - 1)/2 < 0.
        expected = 0., 2.5
    else:
        a, b = torch.randn(2, count)
        rows = torch.stack([a, 2 * (.6 * a + .8 * b)], dim=1)
        expected = .6, 2.5
    matrix = torch.diag(torch.tensor([1., 1.]))[None]
    found = decorrelation_monitors(matrix, rows[None])
    assert found['correlation'] == pytest.approx(expected[0], abs=.05)
    assert found['variance'] == pytest.approx(expected[1], rel=.06)
    assert found['distance'] == 0
    matrix[0, 0, 1] = 3.
    assert decorrelation_monitors(matrix, rows[None])['distance'] == \
        pytest.approx(3 / 2**.5)


def test_monitors_show_no_correlation_of_independent_values():
    torch.manual_seed(0)
    found = decorrelation_monitors(
        torch.eye(128).repeat(2, 1, 1), torch.randn(2, 64, 128))
    assert (found['correlation'] < .03).all()  # by chance 1 / 8


def test_moments_of_two_ranks_are_those_of_the_pool():
    matrices, rows = matrices_and_rows(40)
    halves = [second_moments(matrices, part) for part in rows.split(20, dim=1)]
    assert torch.allclose(
        sum(halves) / 2, second_moments(matrices, rows), atol=1e-6)
    # 768 wide: 32 rows of each of 8 ranks, or a matrix.
    assert gather_is_cheaper(8, 32, 768, itemsize=4)
    assert not gather_is_cheaper(8, 1024, 768, itemsize=4)


def test_faster_than_back_propagation_on_correlated_inputs():
    """Steps to the loss that back-propagation has after 400.

    Linear regression on 32 inputs whose correlations are 0.9 between
    neighbours, SGD of 64 rows.
    """

    def losses(eta, kappa, steps):
        torch.manual_seed(0)
        index = torch.arange(32.)
        root = torch.linalg.cholesky(.9**(index[:, None] - index).abs())
        truth = torch.randn(1, 32)
        layer = decorrelated(nn.Linear(32, 1, bias=False))
        nn.init.zeros_(layer.weight)
        test = torch.randn(2000, 32) @ root.T
        history = []
        for _ in range(steps):
            rows = torch.randn(64, 32) @ root.T
            loss = F.mse_loss(layer(rows), rows @ truth.T)
            gradient, = torch.autograd.grad(loss, layer.weight)
            layer.weight.data -= .015 * gradient
            update_from_rows_(layer.decorrelation, rows[None], eta, kappa)
            with torch.no_grad():
                history.append(F.mse_loss(layer(test), test @ truth.T).item())
        return history

    target = losses(0., .5, 400)[-1]
    history = losses(.01, .5, 200)
    assert min(history) < target
    reached = next(i for i, loss in enumerate(history) if loss < target)
    assert reached < 200


def test_files_hold_exact_products_whatever_training_multiplies_in(monkeypatch):
    layer = decorrelated(nn.Linear(4, 4))
    found = []
    fuse = layer._product
    monkeypatch.setattr(layer, '_product', lambda: found.append(
        torch.get_float32_matmul_precision()) or fuse())
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('high')
    try:
        layer(torch.randn(2, 4))
        layer.state_dict()
        assert found == ['high', 'highest']
        assert torch.get_float32_matmul_precision() == 'high'
    finally:
        torch.set_float32_matmul_precision(before)
