# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A decorrelated model under an optimizer, without a runner."""
import runpy
from pathlib import Path

import mmcv.cnn
import pytest
import torch
from mmcv.cnn import ConvWS2d
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OneCycleLR, OptimWrapper, OptimWrapperDict
from mmpretrain.models import (
    MlpMixer,
    SwinTransformer,
    VisionTransformer,
    ViTEVA02,
)
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from mmeffmae.engine.decorrelation import (
    DecorrelationError,
    DecorrelationSettings,
    Decorrelator,
    candidates,
    choose_layers,
)
from mmeffmae.engine.optimizers import BFloat16OptimWrapper
from mmeffmae.models import MaskedViT

REFERENCE = runpy.run_path(str(Path(__file__).parents[1] / 'reference/dbp.py'))
ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
ALL = dict(include=['*'])


class Perceptron(nn.Module):

    def __init__(self, width=6, recompute=False):
        super().__init__()
        self.first = nn.Linear(width, 8)
        self.last = nn.Linear(8, 3)
        self.recompute = recompute

    def forward(self, x):
        hidden = F.gelu(self.first(x))
        if self.recompute:
            return checkpoint(self.last, hidden, use_reentrant=False)
        return self.last(hidden)


def wrapped(model, lr=.1, **kwargs):
    return OptimWrapper(torch.optim.SGD(model.parameters(), lr=lr), **kwargs)


def decorrelate(model, wrapper=None, **settings):
    return Decorrelator(
        model, wrapper or wrapped(model), DecorrelationSettings(**settings))


def step(model, wrapper, x):
    with wrapper.optim_context(model):
        loss = model(x).square().mean()
    wrapper.update_params(loss)


def test_trains_as_the_reference_does():
    """Loss, every gradient, and all that is learned, over five steps."""
    torch.manual_seed(0)
    model = Perceptron()
    wrapper = wrapped(model)
    # As many strata as rows: every row is kept.
    options = dict(eta=.2, kappa=.3, step_guard=.4)
    decorrelator = decorrelate(model, wrapper, num_samples=10, **ALL, **options)
    layers = list(decorrelator.layers.values())
    options['guard'] = options.pop('step_guard')
    for _ in range(5):
        x, target = torch.randn(10, 6) + 1, torch.randn(10, 3)
        before = [[p.detach().clone() for p in group] for group in (
            [m.weight for m in layers], [m.bias for m in layers],
            [m.decorrelation[0] for m in layers])]
        loss = F.mse_loss(model(x), target)
        loss.backward()
        gradients = [p.grad.clone() for p in (
            *[m.weight for m in layers], *[m.bias for m in layers])]
        wrapper.step()
        wrapper.zero_grad()
        expected = REFERENCE['train_step'](x, target, *before, lr=.1, **options)
        ours = (loss.detach(), gradients, [m.weight for m in layers],
                [m.bias for m in layers], [m.decorrelation[0] for m in layers])
        for a, b in zip(ours, expected):
            for tensor, reference in zip(*[t if isinstance(t, (list, tuple)) else [t]
                                           for t in (a, b)]):
                assert torch.allclose(tensor, reference, atol=1e-5)
    assert (layers[0].decorrelation[0] - torch.eye(6)).norm() > .1
    assert torch.allclose(
        model.state_dict()['first.weight'],
        REFERENCE['fold'](layers[0].weight, layers[0].decorrelation[0]))


def test_rate_zero_is_plain_to_the_bit():
    results = []
    for decorrelates in (True, False):
        torch.manual_seed(0)
        model = Perceptron()
        wrapper = wrapped(model)
        if decorrelates:
            decorrelate(model, wrapper, eta=0., **ALL)
        for _ in range(3):
            step(model, wrapper, torch.randn(10, 6))
        results.append(list(model.state_dict().items()))
    for (name, ours), (plain_name, plain) in zip(*results):
        assert name == plain_name and torch.equal(ours, plain)


def vit(**kwargs):
    model = nn.Module()
    model.backbone = MaskedViT(ARCH, img_size=32, patch_size=8, **kwargs)
    model.neck = nn.Linear(32, 8)
    return model


@pytest.mark.parametrize('settings, expected', [
    (dict(), ['attn.qkv', 'attn.proj', 'ffn.layers.0.0']),
    (dict(fc2_blocks=2), ['attn.qkv', 'attn.proj', 'ffn.layers.0.0', 'ffn.layers.1']),
    (dict(include=['*.qkv'], patch_embed=True, exclude=['*.0.*']), ['attn.qkv'])])
def test_layers_of_a_vit(settings, expected):
    model = vit()
    chosen = choose_layers(candidates(model), DecorrelationSettings(**settings))
    layers = (1, ) if 'exclude' in settings else (0, 1)
    names = [f'backbone.layers.{i}.{name}' for i in layers for name in expected]
    if settings.get('patch_embed'):
        names.insert(0, 'backbone.patch_embed.projection')
    assert sorted(chosen) == sorted(names)
    assert chosen.get('backbone.layers.1.ffn.layers.1', 2) == 2


def test_layers_that_do_not_learn_stay_plain():
    model = vit()
    first, second = model.backbone.layers
    first.attn.qkv.requires_grad_(False)
    wrapper = OptimWrapper(torch.optim.SGD([
        dict(params=first.attn.proj.parameters(), lr=0.),
        dict(params=second.parameters())], lr=.1))
    decorrelator = decorrelate(model, wrapper, eta=1e-2)
    assert list(decorrelator.layers) == [
        f'backbone.layers.1.{name}'
        for name in ('attn.qkv', 'attn.proj', 'ffn.layers.0.0')]
    assert decorrelator.eta() == 1e-2  # not of the group that stands still


def test_stages_that_freeze_when_training_starts_stay_plain():
    model = nn.Module()
    model.backbone = SwinTransformer(
        dict(embed_dims=8, depths=[1] * 4, num_heads=[1] * 4), img_size=64,
        window_size=2, frozen_stages=1)
    model.backbone.stages[3].eval()
    names = decorrelate(model).layers
    assert not model.backbone.stages[3].training  # modes stay
    assert len(names) == 6
    assert not any('stages.0' in name or 'stages.1' in name for name in names)


def test_layers_of_other_backbones():
    for backbone, count, second in (
            (VisionTransformer(ARCH, 32, 8), 6, 2),
            (SwinTransformer(dict(embed_dims=8, depths=[1] * 4, num_heads=[1] * 4),
                             img_size=64, window_size=2), 12, 4),
            (ViTEVA02(ARCH, img_size=32, patch_size=8), 6, 2),
            (MlpMixer(dict(embed_dims=32, num_layers=2, tokens_mlp_dims=8,
                           channels_mlp_dims=64), 32, 8), 4, 4),
            (vit(share_attn=1).backbone, 4, 2)):
        model = nn.Module()
        model.backbone = backbone
        both = choose_layers(candidates(model), DecorrelationSettings(fc2_blocks=1))
        assert len(both) == count + second
        assert len(choose_layers(candidates(model), DecorrelationSettings())) == count
        # An MLP of positions is none of tokens.
        backbone.attn = nn.Module()
        backbone.attn.posmlp = nn.Module()
        backbone.attn.posmlp.fc1 = nn.Linear(2, 4)
        assert len(choose_layers(candidates(model), DecorrelationSettings())) == count


def test_what_stays_plain_is_named():
    model = vit()
    decorrelator = decorrelate(
        model, include=['*.qkv', '*.ffn.*'], exclude=['*.1.ffn.*'])
    assert decorrelator.plain_layers == [
        'backbone.patch_embed.projection', 'backbone.layers.0.attn.proj',
        'backbone.layers.1.attn.proj', 'backbone.layers.1.ffn.layers.0.0',
        'backbone.layers.1.ffn.layers.1']


def test_what_computes_something_else_is_no_candidate():
    class Lowered(nn.Linear):
        def forward(self, x):
            return super().forward(x) / 2

    model = nn.Sequential(
        nn.Linear(4, 4), Lowered(4, 4), mmcv.cnn.Linear(4, 4),
        ConvWS2d(4, 4, 1), parametrizations.weight_norm(nn.Linear(4, 4)),
        nn.utils.weight_norm(nn.Linear(4, 4)))
    assert candidates(model) == ['0', '2']


def test_hooks_of_a_layer_stay():
    model, called = Perceptron(), []
    handles = [
        model.last.register_forward_hook(lambda *_: called.append('forward')),
        model.last.register_full_backward_hook(lambda *_: called.append('back')),
        model.last.register_state_dict_post_hook(lambda *_: called.append('saved')),
        model.last.register_load_state_dict_post_hook(
            lambda *_: called.append('loaded'))]
    decorrelate(model, **ALL)
    model(torch.randn(2, 6)).sum().backward()
    model.load_state_dict(model.state_dict())
    for handle in handles:
        handle.remove()
    model(torch.randn(2, 6)).sum().backward()
    model.load_state_dict(model.state_dict())
    assert called == ['forward', 'back', 'saved', 'loaded']


def test_a_weight_of_two_layers_is_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    with pytest.raises(DecorrelationError, match='0 and 2 share one weight'):
        decorrelate(model, **ALL)
    model[0].requires_grad_(False)
    assert list(decorrelate(model, **ALL).layers) == ['1']


def test_a_model_that_averages_by_itself_is_refused():
    model = Perceptron()
    model.momentum_update = lambda: None
    with pytest.raises(DecorrelationError, match='Perceptron averages weights'):
        decorrelate(nn.Sequential(model), **ALL)


def test_a_model_that_is_cast_later_is_refused():
    model = Perceptron()
    wrapper = wrapped(model)
    decorrelate(model, wrapper, **ALL)
    model.double().float()
    with pytest.raises(DecorrelationError, match='moved or cast'):
        step(model, wrapper, torch.randn(16, 6))


@pytest.mark.parametrize('settings', [
    dict(include=['backbone.*.qvk']), dict(exclude=['neck.*.qkv']),
    dict(include=['*.qkv', 'head.*']), dict(exclude=['*'])])
def test_pattern_without_a_match_lists_the_candidates(settings):
    with pytest.raises(DecorrelationError) as error:
        choose_layers(candidates(vit()), DecorrelationSettings(**settings))
    assert 'choose from' in str(error.value)
    assert 'backbone.layers.1.attn.qkv' in str(error.value)
    assert 'neck' in str(error.value)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match='kappa=1.5 has to be in 0 to 1; upd'):
        DecorrelationSettings(kappa=1.5, update_interval=0)


def test_several_optimizers_are_refused():
    model = Perceptron()
    with pytest.raises(DecorrelationError, match='MuonAdamW'):
        decorrelate(model, OptimWrapperDict(a=wrapped(model)), **ALL)


def test_one_update_for_each_optimizer_step():
    torch.manual_seed(0)
    model = Perceptron()
    wrapper = wrapped(model, accumulative_counts=3)
    decorrelator = decorrelate(model, wrapper, num_samples=4, **ALL)
    matrix = model.first.decorrelation
    seen = []
    for i in range(6):
        before = matrix.clone()
        step(model, wrapper, torch.randn(10, 6))
        assert len(model.first.rows) == (i >= 2)
        seen.append(not torch.equal(matrix, before))
    assert seen == [False, False, True, False, False, True]
    assert decorrelator.num_steps == 2


def test_matrices_learn_in_float32_under_autocast():
    torch.manual_seed(0)
    model = Perceptron()
    wrapper = BFloat16OptimWrapper(
        enabled=True, optimizer=torch.optim.SGD(model.parameters(), lr=.1))
    decorrelate(model, wrapper, eta=1e-4, **ALL)  # less than bfloat16 holds at 1
    step(model, wrapper, torch.randn(16, 6) + 1)
    matrix, = model.first.decorrelation
    assert matrix.dtype == torch.float32
    assert 0 < (matrix - torch.eye(6)).abs().max() < 1e-3


def test_update_interval_counts_optimizer_steps():
    model = Perceptron()
    wrapper = wrapped(model)
    decorrelate(model, wrapper, update_interval=3, **ALL)
    seen = []
    for _ in range(6):
        before = model.first.decorrelation.clone()
        model.first.rows.clear()
        step(model, wrapper, torch.randn(10, 6))
        seen.append((len(model.first.rows),
                     torch.equal(model.first.decorrelation, before)))
    assert seen == [(0, True), (0, True), (1, False)] * 2


def test_skipped_steps_of_a_gradient_scaler_update_nothing():
    model = Perceptron()
    wrapper = wrapped(model)
    decorrelator = decorrelate(model, wrapper, **ALL)
    scaler = torch.amp.GradScaler('cpu', init_scale=2.)
    before = model.first.decorrelation.clone()
    for value, steps in ((float('inf'), 0), (1., 1)):
        x = torch.full((10, 6), value)
        scaler.scale(model(x).square().mean()).backward()
        scaler.step(wrapper.optimizer)
        scaler.update()
        wrapper.optimizer.zero_grad()
        assert decorrelator.num_steps == steps
        assert torch.equal(before, model.first.decorrelation) is (steps == 0)


def test_a_fused_optimizer_that_finds_an_overflow_updates_nothing():
    model = Perceptron()
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), fused=True))
    decorrelate(model, wrapper, **ALL)
    before = model.first.decorrelation.clone()
    for found, stays in ((1., True), (0., False)):
        wrapper.optimizer.found_inf = torch.tensor(found)
        step(model, wrapper, torch.randn(10, 6))
        assert torch.equal(before, model.first.decorrelation) is stays


def test_rows_are_kept_once_and_in_training_only():
    torch.manual_seed(0)
    model = Perceptron(recompute=True)
    wrapper = wrapped(model)
    decorrelate(model, wrapper, num_samples=4, **ALL)
    step(model, wrapper, torch.randn(10, 6))
    assert [rows.shape for rows in model.last.rows] == [(4, 8)]
    kept = model.last.rows[0]
    model.eval()
    model(torch.randn(10, 6))
    assert model.last.rows[0] is kept


def test_a_shared_layer_keeps_rows_of_every_call():
    torch.manual_seed(0)
    model = vit(share_attn=1)
    wrapper = wrapped(model)
    decorrelate(model.backbone, wrapper, num_samples=6,
                include=['shared_attn.0.qkv', 'layers.0.ffn.layers.0.0'])
    outputs = model.backbone.train()(torch.randn(2, 3, 32, 32))
    qkv = model.backbone.shared_attn[0].qkv
    assert len(qkv.rows) == 2
    outputs[-1].square().mean().backward()
    wrapper.step()
    assert not torch.equal(qkv.decorrelation[0], torch.eye(32))


def test_patch_embedding_learns_from_visible_patches():
    from mmeffmae.masking import RandomMasking
    torch.manual_seed(0)
    model = vit().backbone.train()
    wrapper = wrapped(model)
    decorrelate(model, wrapper, include=['patch_embed.projection'], num_samples=8)
    images = torch.randn(2, 3, 32, 32)
    plan = RandomMasking(.75)(torch.rand(2, 4, 4))
    model(images, plan).square().mean().backward()
    layer = model.patch_embed.projection
    patches = F.unfold(images, 8, stride=8).transpose(1, 2)
    visible = patches.gather(1, plan.ids_keep[:, 0, :, None].expand(-1, -1, 192))
    assert torch.equal(layer.rows[0], visible.flatten(0, 1))
    wrapper.step()
    tokens = model.patch_embed.embed_visible(images, plan)
    full = model.patch_embed(images)[0]
    index = plan.ids_keep[:, 0, :, None].expand(-1, -1, 32)
    assert torch.allclose(tokens, full.gather(1, index), atol=1e-5)


def test_a_layer_whose_weight_is_read_directly_is_named():

    class Direct(Perceptron):

        def forward(self, x):
            return F.linear(F.linear(x, self.first.weight), self.last.weight)

    model = Direct()
    wrapper = wrapped(model)
    decorrelate(model, wrapper, **ALL)
    with pytest.raises(DecorrelationError, match='first first: .* to exclude'):
        step(model, wrapper, torch.randn(10, 6))
    assert not choose_layers_of(nn.MultiheadAttention(4, 2))


def choose_layers_of(module):
    model = nn.Module()
    model.backbone, model.other = module, nn.Linear(2, 2)
    chosen = choose_layers(candidates(model), DecorrelationSettings(**ALL))
    return [name for name in chosen if name != 'other']


def test_an_averaged_model_inside_follows_the_folded_weights():
    torch.manual_seed(0)
    model = Perceptron()
    model.register_buffer('count', torch.zeros(()))
    wrapper = wrapped(model)
    teacher = ExponentialMovingAverage(model, momentum=.4)
    model.teacher = teacher
    decorrelator = decorrelate(model, wrapper, eta=.1, **ALL)
    assert set(decorrelator.layers) == {'first', 'last'}
    student = nn.Module()
    student.first, student.last = model.first, model.last
    student.register_buffer('count', model.count)
    expected = {k: v.clone() for k, v in student.state_dict().items()}
    teacher.update_parameters(student)  # the first copies
    for _ in range(3):
        step(model, wrapper, torch.randn(10, 6))
        model.count += 1
        teacher.update_parameters(student)
        for name, value in student.state_dict().items():
            expected[name].lerp_(value, 1. if name == 'count' else .4)
    assert not torch.equal(model.first.decorrelation[0], torch.eye(6))
    for name, value in teacher.module.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-6)


def test_rate_follows_the_schedule():
    model = Perceptron()
    wrapper = wrapped(model, lr=.5)
    decorrelator = decorrelate(model, wrapper, eta=1e-2, **ALL)
    assert decorrelator.eta() == 1e-2
    group, = wrapper.optimizer.param_groups
    group['lr'] = .1
    assert decorrelator.eta() == pytest.approx(2e-3)
    group['initial_lr'] = .2
    assert decorrelator.eta() == pytest.approx(5e-3)
    group['lr'] = 0.
    assert decorrelator.eta() == 0


def test_rate_of_one_cycle_peaks_at_its_setting():
    model = Perceptron()
    wrapper = wrapped(model)
    schedule = OneCycleLR(wrapper, eta_max=.4, total_steps=10)  # starts far below
    decorrelator = decorrelate(model, wrapper, eta=1e-2, **ALL)
    rates = []
    for _ in range(9):
        rates.append(decorrelator.eta())
        step(model, wrapper, torch.randn(10, 6))
        schedule.step()
    assert max(rates) == pytest.approx(1e-2, rel=.1) and rates[0] < 1e-3


def test_the_optimizer_holds_the_same_parameters_and_no_matrix():
    model = vit()
    before = dict(model.named_parameters())
    names = list(model.state_dict())
    wrapper = wrapped(model)
    decorrelate(model, wrapper, fc2_blocks=2)
    assert all(before[n] is p for n, p in model.named_parameters())
    assert list(model.state_dict()) == names
    assert {id(p) for p in wrapper.optimizer.param_groups[0]['params']} == {
        id(p) for p in before.values()}


def test_compiles_without_graph_breaks():
    model = Perceptron()
    wrapper = wrapped(model)
    decorrelator = decorrelate(model, wrapper, num_samples=4, **ALL)
    forward = torch.compile(model.forward, fullgraph=True, backend='eager')
    decorrelator._sampler.is_open = True
    x = torch.randn(10, 6)
    forward(x).sum().backward()
    assert [rows.shape for rows in model.first.rows] == [(4, 6)]
    assert torch.equal(model.first.rows[0], x[decorrelator._sampler.choose(10)])
    wrapper.step()
    assert not torch.equal(model.first.decorrelation[0], torch.eye(6))
