# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch
from mmengine.model import BaseModule
from mmpretrain.models import VisionTransformer
from torch import nn

from mmeffmae.masking import MaskPlan, RandomMasking
from mmeffmae.models import MaskedViT
from mmeffmae.registry import MODELS

ARCH = dict(embed_dims=32, num_layers=4, num_heads=4, feedforward_channels=64)


def build(**kwargs):
    torch.manual_seed(0)
    vit = MaskedViT(ARCH, img_size=32, patch_size=8, **kwargs)
    vit.init_weights()
    return vit.eval()


@pytest.mark.parametrize('size', [(32, 32), (64, 48), (36, 30)])
@pytest.mark.parametrize('out_type', ['featmap', 'cls_token', 'avg_featmap', 'raw'])
def test_without_a_plan_it_is_mmpretrains_vit(size, out_type):
    ours = build(out_indices=[1, 3], out_type=out_type)
    stock = VisionTransformer(
        ARCH, img_size=32, patch_size=8, out_indices=[1, 3], out_type=out_type)
    stock.eval()
    stock.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(2, 3, *size)
    for our, their in zip(ours(images), stock(images)):
        torch.testing.assert_close(our, their, atol=1e-6, rtol=1e-5)


def test_no_setting_of_mmpretrains_is_dropped_in_silence():
    conv = dict(type='mmeffmae.ConvFFN')
    for settings, name in (
            (dict(layer_cfgs=dict(qk_scale=1.)), 'layer_cfgs'),
            (dict(patch_cfg=dict(bias=False)), 'patch_cfg'),
            (dict(ffn=conv, drop_rate=.1), 'drop_rate'),
            (dict(ffn=[conv, None], layer_scale_init_value=1e-5), 'layer_scale')):
        with pytest.raises(ValueError, match=f'{name}.* would be ignored'):
            build(**settings)
    shared, = build(share_attn=1, drop_rate=.3).shared_attn
    assert shared.proj_drop.p == .3
    plan = RandomMasking(.75)(torch.rand(1, 4, 4))
    with pytest.raises(ValueError, match="'avg_featmap' with a mask plan"):
        build(out_type='avg_featmap').check_plan(plan)


def test_a_plan_of_all_patches_is_the_whole_image():
    vit = build(out_type='raw')
    images = torch.randn(2, 3, 32, 32)
    everything = torch.arange(16).expand(2, 1, -1)
    plan = MaskPlan(everything, everything[..., :0], (4, 4))
    torch.testing.assert_close(vit(images, plan), vit(images)[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    'arch, millions',
    [('t', 5.525), ('s', 21.666), ('b', 85.799), ('l', 303.302), ('h', 630.765)])
def test_sizes(arch, millions):
    # ViT-H has patch 14, as in MAE; without the classification head.
    with torch.device('meta'):
        vit = MaskedViT(arch, patch_size=14 if arch == 'h' else 16)
    count = sum(p.numel() for p in vit.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=1e-3)


def test_attention_is_shared_within_groups_and_registered_once():
    vit = build(share_attn=2, drop_path_rate=.3)
    names = [n for n, _ in vit.named_parameters(remove_duplicate=False)]
    assert len(names) == len(set(names)) == len(list(vit.parameters()))
    assert not any('layers' in n and 'attn' in n for n in names)
    rates = [layer.attn.out_drop.drop_prob for layer in vit.layers]
    assert rates == pytest.approx([0, .1, .2, .3])
    state = dict(vit.state_dict())
    expanded = {k: v for k, v in state.items() if not k.startswith('shared_attn')}
    for layer, group in enumerate([0, 0, 1, 1]):
        for part in ('qkv.weight', 'qkv.bias', 'proj.weight', 'proj.bias'):
            shared = state[f'shared_attn.{group}.{part}']
            expanded[f'layers.{layer}.attn.{part}'] = shared
    plain = build()
    plain.load_state_dict(expanded, strict=True)
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(vit(images)[0], plain(images)[0])
    depth = vit.get_layer_depth('backbone.shared_attn.1.qkv.weight', 'backbone.')
    assert depth == (4, 6)
    with pytest.raises(ValueError, match='share_attn 5.*1 to 4'):
        build(share_attn=5)


def test_sharing_all_attention_saves_what_clmae_saves():
    with torch.device('meta'):
        saved = [sum(p.numel() for p in MaskedViT('b', share_attn=s).parameters())
                 for s in (None, 1)]
    assert saved[0] - saved[1] == 25_986_048


@MODELS.register_module(force=True)
class LayoutProbe(BaseModule):
    """A feed-forward part that remembers what it was told."""

    def __init__(self, embed_dims, feedforward_channels, drop_path_rate):
        super().__init__()
        self.fc = nn.Linear(embed_dims, embed_dims)

    def forward(self, x, identity, layout):
        self.layout = layout
        return identity + self.fc(x)


def test_feed_forward_parts_learn_where_tokens_stand():
    vit = build(ffn=dict(type='mmeffmae.LayoutProbe'))
    plan = RandomMasking(.5)(torch.rand(2, 4, 4))
    vit(torch.randn(2, 3, 32, 32), plan)
    assert torch.equal(vit.layers[3].ffn.layout.ids, plan.ids_keep[:, 0])
    vit(torch.randn(2, 3, 40, 32))
    layout = vit.layers[3].ffn.layout
    assert layout.ids is None and layout.grid == (5, 4) and layout.num_extra_tokens == 1


@pytest.mark.parametrize('masked', [True, False])
def test_recomputing_activations_changes_no_gradient(masked):
    grads = []
    images = torch.randn(2, 3, 32, 32)
    plan = RandomMasking(.5)(torch.rand(2, 4, 4)) if masked else None
    for with_cp in (False, True):
        vit = build(with_cp=with_cp, drop_path_rate=.5, share_attn=1).train()
        torch.manual_seed(3)
        out = vit(images, plan)
        (out if masked else out[0]).square().sum().backward()
        grads.append([p.grad for p in vit.parameters() if p.grad is not None])
    for a, b in zip(*grads):
        assert torch.equal(a, b)


def test_pretrained_weights_stay_as_loaded(tmp_path):
    source = build()
    for parameter in source.parameters():
        parameter.data.add_(torch.randn_like(parameter))
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'vit.pth')
    vit = build(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'vit.pth')))
    for name, value in vit.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name


def test_position_tables_resize_unless_their_grid_is_unknown():
    vit = build()
    state = vit.state_dict()
    state['pos_embed'] = torch.randn(1, 1 + 36, 32)
    vit.load_state_dict(state, strict=True)
    state['pos_embed'] = torch.randn(1, 1 + 12, 32)
    with pytest.raises(ValueError, match='not on a square.*export_backbone'):
        vit.load_state_dict(state)


def test_positions_are_row_major_on_any_grid():
    vit = MaskedViT(ARCH, img_size=(16, 40), patch_size=8)
    vit.init_weights()
    table = vit.pos_embed[0, 1:].view(2, 5, 32)
    # The first half of the channels tells the row, the other the column.
    assert torch.equal(table[1, 0, :16], table[1, 4, :16])
    assert torch.equal(table[0, 3, 16:], table[1, 3, 16:])
    assert not torch.equal(table[0, 0, :16], table[1, 0, :16])


def test_refusals():
    with pytest.raises(ValueError, match="arch 'xxl'"):
        MaskedViT('xxl')
    plan = RandomMasking(.5)(torch.rand(2, 4, 4))
    with pytest.raises(ValueError, match='hides'):
        build().check_plan(plan._replace(hidden=torch.zeros(2, 1, 8, dtype=torch.bool)))
