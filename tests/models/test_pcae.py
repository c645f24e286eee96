# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import copy
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmeffmae.checkpoint.export import export_backbone
from mmeffmae.masking import ComplementaryMasking, ParallelMasking, RandomMasking
from mmeffmae.models.heads.feature_head import FeatureHead, pairwise_cosines
from mmeffmae.models.selfsup.momentum_teacher import MomentumTeacher
from mmeffmae.models.selfsup.pcae import teacher_plan
from mmeffmae.registry import MODELS

sys.path.insert(0, str(Path(__file__).parents[1] / 'reference'))
import pcae as reference

ARCH = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=64)
DECODER = dict(decoder_embed_dim=16, decoder_depth=2, decoder_num_heads=2)
SIZES = ((3, 4), (2, 2))  # (depth, heads) of encoder and decoder


def assembled(masking=None, teacher=None, neck=None, **backbone):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='mmeffmae.PCAE',
            backbone=dict(
                type='mmeffmae.MaskedViT',
                **{'arch': ARCH, 'img_size': 48, 'patch_size': 8, **backbone}),
            neck=dict(type='mmeffmae.MaskedDecoder', **{**DECODER, **(neck or {})}),
            head=dict(type='mmeffmae.FeatureHead'),
            masking=masking or dict(type='mmeffmae.ComplementaryMasking'),
            teacher={'drop_indices': (0, 1), **(teacher or {})}))


def initialised(*args, **kwargs):
    model = assembled(*args, **kwargs)
    model.init_weights()
    return model


def build(*args, **kwargs):
    """With other weights in teacher and student, and nowhere zeros or ones."""
    model = initialised(*args, **kwargs)
    for parameter in model.parameters():
        parameter.data.add_(.05 * torch.randn_like(parameter))
    return model


@pytest.fixture
def images():
    return torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def noise():
    return torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(2))


def test_equals_the_reference(images, noise):
    model = build()
    w = dict(model.state_dict(keep_vars=True))
    loss = model.loss(images, plan=model.masking(noise))['loss_feat']
    loss.backward()
    ours = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    expected = reference.pcae_loss(
        images, noise.flatten(1).argsort(1), 9, w, 8, *SIZES, drops=(0, 1))
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    expected.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(
                ours[name], parameter.grad, atol=1e-6, rtol=1e-4, msg=name)
        else:
            assert parameter.grad is None


@pytest.mark.parametrize('num_parts', [1, 2])
def test_student_and_teacher_share_the_image_out(num_parts):
    plan = ComplementaryMasking(num_parts)(torch.rand(4, 14, 14))
    theirs = teacher_plan(plan)
    assert plan.ids_keep.shape == (4, num_parts, 49)
    assert theirs.ids_keep.shape == (4, 1, 196 - 49 * num_parts)
    both = torch.cat([plan.ids_keep.flatten(1), theirs.ids_keep.flatten(1)], 1)
    assert torch.equal(both.sort(1).values, torch.arange(196).expand(4, -1))


@pytest.mark.parametrize('arch, patch, retained', [
    ('b', 16, (18, 20, 22)), ('l', 16, (18, 20, 22)), ('h', 14, (24, 27, 28))])
def test_tokens_of_vit_base_large_and_huge(arch, patch, retained):
    """What enters each layer of the teacher, and a step of the real sizes."""
    with torch.device('meta'):
        model = assembled(arch=arch, img_size=224, patch_size=patch,
                          teacher=dict(drop_indices=None))
    images = torch.empty(2, 3, 224, 224, device='meta')
    teacher, depth = model.teacher.module, model.backbone.num_layers
    lengths, predicted = [], []
    for layer in teacher.layers:
        layer.attn.register_forward_hook(
            lambda _, inputs, __: lengths.append(inputs[0].size(1)))
    model.neck.register_forward_hook(lambda _, __, out: predicted.append(out.shape))
    for ratio, count in zip((.75, .85, .9), retained):
        model.masking.mask_ratio = ratio
        lengths.clear()
        with torch.no_grad():
            model.loss(images)
        grid = (224 // patch)**2
        stages = [grid - math.floor(grid * (1 - ratio) + 1e-6)]
        for _ in range(3):
            stages.append(stages[-1] // 2)
        assert stages[-1] == count
        third = depth // 3
        assert [lengths[i] for i in (0, 1, third, third + 1, 2 * third + 1, -1)] == [
            stages[0], stages[1], stages[1], stages[2], stages[3], stages[3]]
        assert predicted[-1] == (2, count, model.backbone.embed_dims)


def test_vit_base_has_the_published_parameters():
    with torch.device('meta'):
        model = assembled(arch='b', img_size=224, patch_size=16, neck=dict(
            decoder_embed_dim=512, decoder_depth=8, decoder_num_heads=16))
    trainable = {part: sum(p.numel() for p in getattr(model, part).parameters()
                           if p.requires_grad) for part in ('backbone', 'neck')}
    assert trainable == dict(backbone=85_647_360, neck=26_008_320)
    assert sum(p.numel() for p in model.teacher.parameters()) == 85_798_656


def test_features_come_from_the_patch_of_their_id(images, noise):
    """With layers that do nothing, a feature is its patch and position."""
    model = build()
    teacher = model.teacher.module
    for layer in teacher.layers:
        for part in (layer.attn.proj, layer.ffn.layers[1]):
            nn.init.zeros_(part.weight), nn.init.zeros_(part.bias)
    features, ids = model.teacher(images, teacher_plan(model.masking(noise)))
    assert ids.shape == (3, 6)  # 27, 13, 6
    tokens, _ = teacher.patch_embed(images)
    everywhere = teacher.ln1(tokens + teacher.pos_embed[:, 1:])
    expected = everywhere[torch.arange(3)[:, None], ids]
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)


def test_loss_starts_at_1_and_ends_at_0_or_2(images, noise):
    model = initialised(arch=dict(ARCH, embed_dims=384), neck=dict(
        decoder_embed_dim=192))
    value = model.loss(images, plan=model.masking(noise))['loss_feat']
    assert .95 < value < 1.07
    head, features = FeatureHead(), torch.randn(3, 5, 8)
    plan = ComplementaryMasking(2)(noise)
    perfect = head.target(features).repeat_interleave(2, 0)
    assert head.loss(perfect, features, plan)['loss_feat'] == pytest.approx(0, abs=1e-6)
    losses = head.loss(-3 * perfect, features, plan)
    assert losses['loss_feat'] == pytest.approx(2, abs=1e-6)


def test_target_and_monitors_of_hand_computed_tokens():
    target = FeatureHead().target(torch.tensor([[[0., 2., 4., 6.]]]).bfloat16())
    # Mean 3, unbiased variance 20/3.
    expected = torch.tensor([-3., -1., 1., 3.]) / (20 / 3)**.5
    torch.testing.assert_close(target[0, 0], expected)
    a, b, c = torch.eye(3)
    within, across = pairwise_cosines(torch.stack([
        torch.stack([a, a, b]), torch.stack([a, c, -c])]))
    # Image 1: pairs aa 1, ab 0, ab 0; image 2: 0, 0, -1. Across: two pairs aa.
    assert within == pytest.approx((1 - 1) / 6, abs=1e-6)
    assert across == pytest.approx(2 / 9)
    same = pairwise_cosines(torch.ones(4, 3, 8))
    assert same == (pytest.approx(1), pytest.approx(1))
    assert pairwise_cosines(torch.ones(1, 1, 8)) == (0, 0)


def test_gradients_reach_the_student_alone(images):
    model = build(drop_path_rate=.1, share_attn=1)
    model.loss(images)['loss_feat'].backward()
    for name, parameter in model.named_parameters():
        frozen = name.startswith('teacher.') or name.endswith('pos_embed')
        assert parameter.requires_grad != frozen
        assert frozen or parameter.grad.any(), name
        assert not frozen or parameter.grad is None, name


def test_teacher_is_the_student_and_then_its_average(images):
    model = initialised(teacher=dict(momentum=.9))
    student, teacher = model.backbone, model.teacher.module
    start = copy.deepcopy(student.state_dict())
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, start[name]), name
    for parameter in student.parameters():
        parameter.data.add_(torch.randn_like(parameter))
    model.update_teacher(0.)
    for name, value in teacher.state_dict().items():
        expected = .9 * start[name] + .1 * student.state_dict()[name]
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=0)


def test_momentum_follows_a_cosine():
    teacher = MomentumTeacher(initialised().backbone, momentum=.9, drop_indices=(0,))
    assert [teacher.momentum_at(x) for x in (0, .5, 1)] == pytest.approx([.9, .95, 1])
    expected = math.prod(
        1 - .1 * (1 + math.cos(math.pi * t / 30)) / 2 for t in range(30))
    assert teacher.initial_share(30) == pytest.approx(expected)
    teacher.end_momentum = .9
    assert teacher.initial_share(30) == pytest.approx(.9**30)


def test_teacher_is_deterministic_in_training(images, noise):
    model = build(drop_path_rate=.5, drop_rate=.5).train()
    assert model.backbone.layers[2].training
    assert not any(part.training for part in model.teacher.modules())
    plan = teacher_plan(model.masking(noise))
    for first, second in zip(model.teacher(images, plan), model.teacher(images, plan)):
        assert torch.equal(first, second)


def test_one_teacher_pass_serves_several_views(images, noise):
    model = build(dict(type='mmeffmae.ComplementaryMasking', num_parts=2))
    plan, passes = model.masking(noise), []
    model.teacher.register_forward_hook(lambda _, args, out: passes.append((args, out)))
    loss = model.loss(images, plan=plan)['loss_feat']
    (args, (features, ids)), = passes
    assert features.shape[:2] == ids.shape == (3, 4)  # 18, 9, 4
    seen = plan.visible.any(1)
    assert not seen.gather(1, ids).any()
    alone = []
    for view in range(2):
        one = plan._replace(ids_keep=plan.ids_keep[:, view:view + 1])
        one = one.with_predict(ids.unsqueeze(1))
        alone.append(model.head.loss(model.predict(images, one), features, one))
    expected = sum(losses['loss_feat'] for losses in alone) / 2
    torch.testing.assert_close(loss, expected)


def test_from_a_checkpoint_without_a_teacher(images):
    source, model = build(), build()
    weights = {k: v for k, v in source.state_dict().items() if 'teacher' not in k}
    model.load_state_dict(weights, strict=True)
    for name, value in model.teacher.module.state_dict().items():
        assert torch.equal(value, weights[f'backbone.{name}']), name
    model.load_state_dict(source.state_dict(), strict=True)
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, source.teacher.state_dict()[name]), name


def test_compiles_without_graph_breaks(images, noise):
    model = build(dict(type='mmeffmae.ComplementaryMasking', num_parts=2),
                  drop_path_rate=.1, arch=dict(ARCH, num_layers=2),
                  neck=dict(decoder_depth=1))
    plan = model.masking(noise)
    compiled = torch.compile(
        lambda x, plan: model.loss(x, plan=plan), fullgraph=True, backend='aot_eager')
    with torch.no_grad():
        torch.manual_seed(0)
        eager = model.loss(images, plan=plan)['loss_feat']
        torch.manual_seed(0)
        torch.testing.assert_close(compiled(images, plan)['loss_feat'], eager)


def test_bf16_keeps_the_loss_in_fp32(images, noise):
    model = build()
    plan = model.masking(noise)
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(images, plan=plan)
    for name, value in losses.items():
        assert value.dtype == torch.float32 and value.isfinite(), name
    exact = model.loss(images, plan=plan)['loss_feat']
    torch.testing.assert_close(losses['loss_feat'], exact, atol=.05, rtol=0)


def test_learns_while_targets_stay_apart(images):
    model = initialised(teacher=dict(momentum=.99))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    history = []
    for step in range(60):
        losses = model.loss(images)
        optimizer.zero_grad()
        losses['loss_feat'].backward()
        optimizer.step()
        model.update_teacher(step / 60)
        history.append({name: value.item() for name, value in losses.items()})
    assert history[-1]['loss_feat'] < .6 * history[0]['loss_feat']
    assert history[-1]['target_cos_batch'] < .9


def test_decoder_depth_is_stochastic_by_one_rate():
    neck = initialised(neck=dict(drop_path_rate=.25)).neck
    rates = [rate for block in neck.decoder_blocks for rate in (
        block.attn.out_drop.drop_prob, block.ffn.dropout_layer.drop_prob)]
    assert rates == [.25] * 4
    tokens = torch.randn(64, 10, 32)
    plan = RandomMasking()(torch.rand(64, 6, 6))
    assert not torch.equal(neck.train()(tokens, plan), neck.eval()(tokens, plan))


def test_refusals(images, noise):
    model = build()
    with pytest.raises(ValueError, match='2 views of 9.*ComplementaryMasking'):
        model.loss(images, plan=ParallelMasking(2, mask_ratio=.75)(noise))
    model = build(dict(type='mmeffmae.ComplementaryMasking', mask_ratio=.9),
                  teacher=dict(keep_ratio=.1))
    with pytest.raises(ValueError, match='0.9 leaves none of 3 tokens'):
        model.loss(images)
    for settings, message in (
        (dict(momentum=1.5), 'momentum 1.5.*share from 0 to 1'),
        (dict(keep_ratio=0.), 'keep_ratio 0.0.*above 0'),
        (dict(drop_indices=(0, 3)), r'\(0, 3\) of 3'),
    ):
        with pytest.raises(ValueError, match=message):
            initialised(teacher=settings)
    with pytest.raises(ValueError, match='Linear cannot drop tokens.*MaskedViT'):
        MomentumTeacher(nn.Linear(2, 2))
    model = build(out_type='raw', drop_ratio=.2)
    with pytest.raises(ValueError, match='drop_ratio 0.2 with a mask plan'):
        model.loss(images)


PARTS = dict(
    model=dict(
        type='mmeffmae.PCAE',
        head=dict(_delete_=True, type='mmeffmae.FeatureHead'),
        masking=dict(type='mmeffmae.ComplementaryMasking'),
        teacher=dict(momentum=.9, drop_indices=(0,))))
ACCUMULATE = dict(PARTS, optim_wrapper=dict(accumulative_counts=3))


class Updates:
    """Notes what the teacher is told; everything else stays as it is."""

    def __init__(self, model):
        self.progress, self.update = [], model.update_teacher
        model.update_teacher = self

    def __call__(self, progress):
        self.progress.append(progress)
        self.update(progress)


@pytest.mark.parametrize('changes', [PARTS, ACCUMULATE])
def test_one_update_an_iteration(changes, tiny_cfg, build_runner):
    """And none by a forward pass, such as that of a hook or a test."""
    runner = build_runner(tiny_cfg(changes))
    updates = Updates(runner.model)
    runner.train()
    assert updates.progress == [i / 12 for i in range(12)]
    assert runner.model.teacher.steps == 12
    before = copy.deepcopy(runner.model.teacher.state_dict())
    runner.model.train().loss(torch.randn(2, 3, 32, 32))
    for name, value in runner.model.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_resume_keeps_the_teacher_and_export_takes_the_student(
        tiny_cfg, build_runner, tmp_path):
    unbroken = build_runner(tiny_cfg(PARTS))
    unbroken.train()
    cfg = tiny_cfg(PARTS)
    cfg.load_from, cfg.resume = str(tmp_path / 'run/epoch_1.pth'), True
    resumed = build_runner(cfg)
    resumed.train()
    expected = unbroken.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    teacher, student = unbroken.model.teacher.module, unbroken.model.backbone
    assert not torch.equal(teacher.ln1.weight, student.ln1.weight)
    result = export_backbone(tmp_path / 'run/epoch_2.pth')
    exported = torch.load(result.path, weights_only=True)['state_dict']
    for name, value in student.state_dict().items():
        assert torch.equal(exported[f'backbone.{name}'], value), name
    assert not any('teacher' in name for name in exported)


def test_a_slow_teacher_is_warned_about(tiny_cfg, build_runner, monkeypatch):
    warnings = []
    for momentum in (.9, .2):
        changes = copy.deepcopy(PARTS)
        changes['model']['teacher']['momentum'] = momentum
        runner = build_runner(tiny_cfg(changes))
        monkeypatch.setattr(runner.logger, 'warning', warnings.append)
        runner.call_hook('before_train')
    warning, = [text for text in warnings if 'initial weights' in text]
    assert warning.startswith('51 %') and 'lower model.teacher.momentum' in warning


def test_cosine_similarity_is_what_the_paper_calls_it():
    """The default loss, written out."""
    head, plan = FeatureHead(), RandomMasking()(torch.rand(2, 4, 4))
    pred, features = torch.randn(2, 2, 12, 8)
    expected = 1 - F.cosine_similarity(pred, head.target(features), dim=-1).mean()
    torch.testing.assert_close(head.loss(pred, features, plan)['loss_feat'], expected)
