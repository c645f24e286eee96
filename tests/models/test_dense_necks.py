# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch

from mmeffmae.models import GlobalAttention, SimpleFeaturePyramid


def test_global_attention_rewrites_the_last_map_in_a_new_tuple():
    neck = GlobalAttention(16, num_heads=2)
    maps = (torch.rand(2, 8, 6, 4), torch.rand(2, 16, 3, 2))
    first, last = neck(maps)
    assert first is maps[0]
    assert last.shape == maps[1].shape
    # In plain matrices: every position is a token, row by row.
    x = maps[1].flatten(2).transpose(1, 2)
    layer = neck.layer
    q, k, v = layer.attn.qkv(layer.ln1(x)).view(2, 6, 3, 2, 8).permute(2, 0, 3, 1, 4)
    mixed = (q @ k.transpose(-1, -2) / 8**.5).softmax(-1) @ v
    x = x + layer.attn.proj(mixed.transpose(1, 2).flatten(2))
    fc1, fc2 = layer.ffn.layers[0][0], layer.ffn.layers[1]
    x = x + fc2(torch.nn.functional.gelu(fc1(layer.ln2(x))))
    expected = neck.norm(x).transpose(1, 2).reshape(2, 16, 3, 2)
    torch.testing.assert_close(last, expected)


def test_global_attention_recomputes_the_same_gradients():
    torch.manual_seed(0)
    neck = GlobalAttention(16, num_heads=2)
    twin = GlobalAttention(16, num_heads=2, with_cp=True)
    twin.load_state_dict(neck.state_dict())
    image = torch.rand(1, 16, 3, 2, requires_grad=True)
    for one in (neck, twin):
        one((image, ))[-1].square().sum().backward()
    for ours, theirs in zip(neck.parameters(), twin.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)
    with pytest.raises(ValueError, match='num_heads 3'):
        GlobalAttention(16, num_heads=3)


@pytest.mark.parametrize('scales', [(4, 2, 1, .5), (2, 1, .5, .25)])
def test_pyramid_starts_every_level_from_the_last_map(scales):
    neck = SimpleFeaturePyramid(16, 8, scales=scales, num_outs=5)
    maps = (torch.rand(1, 16, 16, 8), torch.rand(1, 16, 16, 8, requires_grad=True))
    outs = neck(maps)
    sides = [16 * scale for scale in (*scales, scales[-1] / 2)]
    assert [out.shape for out in outs] == [(1, 8, s, s / 2) for s in sides]
    assert torch.equal(outs[-1], outs[-2][..., ::2, ::2])
    sum(out.sum() for out in outs[:-1]).backward()
    assert all(p.grad is not None for p in neck.parameters())
    assert 'levels.0.0.weight' in neck.state_dict()


@pytest.mark.parametrize('options, message', [
    (dict(scales=(3, 1)), 'scale 3'), (dict(num_outs=2), 'num_outs 2')])
def test_pyramid_refuses_what_it_cannot_make(options, message):
    with pytest.raises(ValueError, match=message):
        SimpleFeaturePyramid(16, 8, **options)
