# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from mmeffmae.models import MaskedViT

ARCH = dict(embed_dims=8, num_layers=12, num_heads=2, feedforward_channels=16)


class Segmentor(nn.Module):
    """Has a backbone and, as those of mmseg, no ``get_layer_depth``."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.decode_head = nn.Linear(8, 2)


def groups_of(model, scope='mmseg', **paramwise):
    with DefaultScope.overwrite_default_scope(scope):
        wrapper = build_optim_wrapper(
            model,
            dict(
                optimizer=dict(type='AdamW', lr=2., weight_decay=.1),
                constructor='mmeffmae.LayerDecayOptimWrapperConstructor',
                paramwise_cfg=dict(layer_decay_rate=.65, **paramwise)))
    groups = {id(p): g for g in wrapper.param_groups for p in g['params']}
    return {n: groups[id(p)] for n, p in model.named_parameters() if p.requires_grad}


def vit(**parts):
    return MaskedViT(
        ARCH, img_size=32, patch_size=8, ffn=dict(type='mmeffmae.ConvFFN'),
        stem=dict(type='mmeffmae.ConvStem'), **parts)


@pytest.mark.parametrize('scope', ['mmseg', 'mmpretrain'])
def test_a_shared_tensor_learns_at_the_mean_rate_of_its_layers(scope):
    groups = groups_of(Segmentor(vit(share_attn=1)), scope)
    rates = {
        'backbone.patch_embed.stages.1.conv.weight': .65**13,
        'backbone.pos_embed': .65**13,
        'backbone.layers.0.ffn.layers.1.weight': .65**12,
        'backbone.layers.11.ln1.weight': .65,
        'backbone.shared_attn.0.qkv.weight': sum(.65**i for i in range(1, 13)) / 12,
        'decode_head.weight': 1,
    }
    assert rates['backbone.shared_attn.0.qkv.weight'] == pytest.approx(.1539, abs=5e-5)
    for name, rate in rates.items():
        assert groups[name]['lr'] == pytest.approx(2 * rate), name
    halves = groups_of(Segmentor(vit(share_attn=2)))
    assert halves['backbone.shared_attn.1.qkv.weight']['lr'] == pytest.approx(
        2 * sum(.65**i for i in range(1, 7)) / 6)


def test_only_matrices_decay():
    model = Segmentor(vit())
    groups = groups_of(model)
    for name, group in groups.items():
        matrix = dict(model.named_parameters())[name].ndim > 1 and not any(
            word in name for word in ('pos_embed', 'cls_token', 'dwconv'))
        assert group['weight_decay'] == (.1 if matrix else 0), name


def test_custom_keys_are_honoured_and_norms_still_do_not_decay():
    groups = groups_of(
        Segmentor(vit()),
        custom_keys={'decode_head': dict(lr_mult=10, decay_mult=.5),
                     'backbone': dict(lr_mult=.1)})
    assert groups['decode_head.weight']['lr'] == pytest.approx(20)
    assert groups['decode_head.weight']['weight_decay'] == pytest.approx(.05)
    for name in ('layers.0.ffn.dwconv.weight', 'layers.3.ln1.weight', 'pos_embed'):
        assert groups[f'backbone.{name}']['weight_decay'] == 0, name
    assert groups['backbone.ln1.weight']['lr'] == pytest.approx(.2)
