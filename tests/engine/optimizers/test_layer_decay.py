# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Exact rate and decay of every parameter, in each kind of model."""
import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

LR, DECAY, RATE = 1e-4, 0.05, 0.65
VIT = dict(
    type='mmeffmae.MaskedViT',
    arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=16),
    img_size=32, patch_size=8)
_STAGES = dict(depths=[1] * 4, num_heads=[1, 1, 2, 2])
#: Of four layers and 16 channels at the end, as the ViT.
ENCODERS = dict(
    vit=VIT,
    windowed=dict(VIT, type='mmeffmae.WindowedViT', window_size=2),
    exported=dict(VIT, type='mmpretrain.VisionTransformer', out_type='featmap'),
    swin=dict(
        type='mmeffmae.SwinTransformer', img_size=32, patch_size=4, window_size=2,
        arch=dict(_STAGES, embed_dims=2)),
    clmae=dict(VIT, share_attn=2, stem=dict(type='mmeffmae.ConvStem'),
               ffn=dict(type='mmeffmae.ConvFFN')),
    um_swin=dict(
        type='mmeffmae.UMSwin', img_size=32, patch_size=8,
        arch=dict(_STAGES, embed_dims=2, position_dims=4)),
    um_pvt=dict(
        type='mmeffmae.UMPVT', img_size=32, patch_size=8,
        arch=dict(_STAGES, embed_dims=[4, 4, 8, 16], mlp_ratios=[2] * 4,
                  sr_ratios=[8, 4, 2, 1])))
#: Exponents of the rate for what is below ``backbone.``, one for each layer
#: that has it; D is 6.
DEPTHS = {'cls_token': [5], 'pos_embed': [5], 'patch_embed': [5],
          'shared_attn.0': [4, 3], 'shared_attn.1': [2, 1],
          **{f'{block}.{i}': [4 - i] for block in ('layers', 'blocks')
             for i in range(4)},
          # A stage of Swin ends with the merging of its patches.
          **{f'stages.{i}.': [4 - i] for i in range(4)}}


def build(model, changes=None, **paramwise):
    paramwise = dict(dict(layer_decay_rate=RATE), **paramwise)
    optimizer = dict(type='AdamW', lr=LR, weight_decay=DECAY)
    return build_optim_wrapper(model, dict(
        optimizer=dict(optimizer, **(changes or {})),
        constructor='mmeffmae.LayerDecayOptimWrapperConstructor',
        paramwise_cfg=paramwise))


def settings(model, wrapper):
    """``name -> (lr / LR, weight decay)``; every parameter has one group."""
    names = {id(p): n for n, p in model.named_parameters()}
    found = {}
    for group in wrapper.optimizer.param_groups:
        for parameter in group['params']:
            name = names.pop(id(parameter))
            found[name] = (group['lr'] / LR, group['weight_decay'])
    assert not names
    return found


def detector(encoder):
    pytest.importorskip('mmdet')
    return dict(
        type='mmdet.FCOS',
        backbone=encoder,
        neck=dict(type='mmdet.FPN', in_channels=[16], out_channels=32, num_outs=1,
                  norm_cfg=dict(type='BN')),
        bbox_head=dict(type='mmdet.FCOSHead', num_classes=2, in_channels=32,
                       feat_channels=32, strides=[8],
                       loss_cls=dict(type='mmdet.FocalLoss'),
                       loss_bbox=dict(type='mmdet.IoULoss'),
                       loss_centerness=dict(type='mmdet.CrossEntropyLoss')),
        data_preprocessor=dict(type='mmdet.DetDataPreprocessor'),
        test_cfg=dict())


def segmentor(encoder):
    pytest.importorskip('mmseg')
    return dict(
        type='mmseg.EncoderDecoder',
        backbone=encoder,
        neck=dict(type='mmseg.Feature2Pyramid', embed_dim=16, rescales=[1],
                  norm_cfg=dict(type='BN')),
        decode_head=dict(type='mmseg.FCNHead', in_channels=16, channels=8, in_index=0,
                         num_classes=2),
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor'))


def classifier(encoder):
    if 'Swin' not in encoder['type'] or 'UM' in encoder['type']:
        encoder = dict(encoder, out_type='avg_featmap')
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=encoder,
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=2, in_channels=16))


@pytest.mark.parametrize('encoder', ENCODERS)
@pytest.mark.parametrize('make, scope', [
    (detector, 'mmdet'), (segmentor, 'mmseg'), (classifier, 'mmpretrain')],
    ids=['detector', 'segmentor', 'classifier'])
def test_every_parameter_has_its_rate_and_decay(make, scope, encoder):
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(make(ENCODERS[encoder]))
    found = settings(model, build(model))
    for name, parameter in model.named_parameters():
        local = name.removeprefix('backbone.')
        exponents = [0] if local == name else next(
            (e for part, e in DEPTHS.items() if local.startswith(part)), [0])
        rate = sum(RATE**e for e in exponents) / len(exponents)
        spared = (parameter.ndim < 2 or local in ('cls_token', 'pos_embed')
                  or 'dwconv' in local or 'bias_table' in local)
        assert found[name] == (pytest.approx(rate), 0 if spared else DECAY), name
    outside = [n for n in found if not n.startswith('backbone.')]
    assert outside and all(found[n][0] == 1 for n in outside)


@pytest.mark.parametrize('encoder, expected', [
    ('vit', {'layers.0.attn.qkv.weight': (.17850625, .05), 'ln1.weight': (1, 0)}),
    ('clmae', {'shared_attn.0.qkv.weight': ((.17850625 + .274625) / 2, .05),
               'shared_attn.1.qkv.bias': ((.4225 + .65) / 2, 0),
               'layers.3.ffn.dwconv.weight': (.65, 0),
               'patch_embed.stages.0.conv.weight': (.1160290625, .05)}),
    ('um_swin', {'patch_embed.projection.weight': (.1160290625, .05),
                 'blocks.0.attn.posmlp.fc1.weight': (.17850625, .05),
                 'blocks.1.downsample.norm.weight': (.274625, 0),
                 'blocks.1.downsample.reduction.weight': (.274625, .05),
                 'norm3.weight': (1, 0)}),
    ('um_pvt', {'pos_embed': (.1160290625, 0),
                'blocks.2.downsample.reduction.weight': (.4225, .05),
                'blocks.3.attn.sr.weight': (.65, .05)})])
def test_hand_checked_rates_in_a_segmentor(encoder, expected):
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(segmentor(ENCODERS[encoder]))
    found = settings(model, build(model))
    for name, (rate, decay) in expected.items():
        assert found[f'backbone.{name}'] == (pytest.approx(rate), decay), name


def test_a_shared_tensor_has_the_mean_of_its_layers():
    arch = dict(VIT['arch'], num_layers=12)
    model = nn.Module()
    model.backbone = MODELS.build(dict(VIT, arch=arch, share_attn=1))
    found = settings(model, build(model))
    shared = found['backbone.shared_attn.0.qkv.weight']
    assert shared == (pytest.approx(.1539, abs=5e-5), DECAY)
    assert found['backbone.shared_attn.0.qkv.bias'] == (shared[0], 0)


def test_a_tensor_under_two_names_has_one_group():
    model = nn.Module()
    model.backbone = MODELS.build(dict(VIT))
    layers = model.backbone.layers
    layers[3].attn.proj = layers[1].attn.proj
    found = settings(model, build(model))
    assert found['backbone.layers.1.attn.proj.weight'][0] == pytest.approx(
        (RATE**3 + RATE) / 2)


def test_custom_keys_multiply_rate_and_decay():
    model = nn.Module()
    model.backbone = MODELS.build(dict(VIT))
    model.head = nn.Linear(16, 2)
    found = settings(model, build(model, custom_keys={
        'head': dict(lr_mult=10), 'layers.0': dict(lr_mult=2),
        'layers.0.ffn': dict(decay_mult=0.5), 'pos_embed': dict(decay_mult=1.)}))
    assert found['head.weight'] == (pytest.approx(10), DECAY)
    assert found['head.bias'] == (pytest.approx(10), 0)
    assert found['backbone.layers.0.attn.qkv.weight'] == (
        pytest.approx(2 * RATE**4), DECAY)
    # The longest key alone counts.
    assert found['backbone.layers.0.ffn.layers.1.weight'] == (
        pytest.approx(RATE**4), DECAY / 2)
    # What is spared stays so.
    assert found['backbone.layers.0.ffn.layers.1.bias'][1] == 0
    assert found['backbone.pos_embed'] == (pytest.approx(RATE**5), 0)
    encoder = model.backbone
    assert settings(encoder, build(encoder)) == {
        name.removeprefix('backbone.'): value
        for name, value in settings(model, build(model)).items()
        if name.startswith('backbone.')}


def test_tables_of_stock_swin_are_spared_and_frozen_parameters_left_out():
    model = nn.Module()
    model.backbone = MODELS.build(dict(
        type='mmpretrain.SwinTransformer', img_size=32, window_size=4,
        use_abs_pos_embed=True, out_indices=(1, ), arch=dict(
            embed_dims=8, depths=[1, 1], num_heads=[1, 2])))
    model.backbone.patch_embed.requires_grad_(False)
    wrapper = build(model)
    count = sum(len(g['params']) for g in wrapper.optimizer.param_groups)
    assert count == sum(p.requires_grad for p in model.parameters())
    model.backbone.patch_embed.requires_grad_(True)
    found = settings(model, build(model))
    table = 'backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table'
    assert found[table] == (pytest.approx(RATE**2), 0)
    assert found['backbone.absolute_pos_embed'][1] == 0
    assert found['backbone.stages.0.downsample.reduction.weight'] == (
        pytest.approx(RATE**2), DECAY)


def test_defaults_still_spare_vectors():
    model = nn.Module()
    model.backbone = MODELS.build(dict(VIT))
    wrapper = build_optim_wrapper(model, dict(
        optimizer=dict(type='AdamW', lr=LR, weight_decay=DECAY),
        constructor='mmeffmae.LayerDecayOptimWrapperConstructor'))
    found = settings(model, wrapper)
    assert {rate for rate, _ in found.values()} == {1.}
    assert found['backbone.layers.0.ln1.weight'][1] == 0


@pytest.mark.parametrize('changes, paramwise, message', [
    ({}, dict(norm_decay_mult=0.), 'never decayed'), (dict(lr=None), {}, 'no lr')])
def test_bad_options_are_named(changes, paramwise, message):
    model = nn.Module()
    model.backbone = MODELS.build(dict(VIT))
    with pytest.raises(ValueError, match=message):
        build(model, changes, **paramwise)


def test_a_backbone_without_depths_is_refused():
    model = nn.Module()
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(ValueError, match='get_layer_depth'):
        build(model)
