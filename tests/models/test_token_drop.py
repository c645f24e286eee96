# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch
from mmpretrain.models import VisionTransformer

from mmeffmae.models import MaskedViT
from mmeffmae.models.layers import TokenDrop, TokenLayout, drop_placement, redundancy

ARCH = dict(embed_dims=32, num_layers=6, num_heads=4, feedforward_channels=64)


@pytest.mark.parametrize('placement, expected', [
    ('start', [(0, 4, 8), (0, 8, 16), (0, 10, 20)]),
    ('end', [(3, 7, 11), (7, 15, 23), (9, 19, 29)]),
    ('even', [(0, 5, 11), (0, 11, 23), (0, 15, 31)]),
    ('first', [(0, 1, 2)] * 3),
    ('inner', [(2, 5, 8), (5, 11, 17), (7, 15, 23)]),
])
def test_placements_of_vit_base_large_and_huge(placement, expected):
    assert [drop_placement(n, 3, placement) for n in (12, 24, 32)] == expected


@pytest.mark.parametrize('ratio, tokens, expected', [
    (.5, 147, [147, 73, 36, 18]), (.5, 167, [167, 83, 41, 20]),
    (.5, 177, [177, 88, 44, 22]), (.5, 192, [192, 96, 48, 24]),
    (.5, 218, [218, 109, 54, 27]), (.5, 231, [231, 115, 57, 28]),
    (.5, 196, [196, 98, 49, 24]), (.4, 196, [196, 117, 70, 42]),
    (.1, 100, [100, 90, 81, 72]), (0., 196, [196] * 4)])
def test_counts(ratio, tokens, expected):
    assert TokenDrop((0, 4, 8), 12, ratio).counts(tokens) == expected


def test_redundancy_of_hand_computed_tokens():
    """Unit vectors e1, e1 and e2: their mean is (2/3, 1/3)."""
    tokens = torch.tensor([[[3., 0.], [1., 0.], [0., 2.]]])
    assert redundancy(tokens).tolist() == [pytest.approx([2 / 3, 2 / 3, 1 / 3])]
    with torch.autocast('cpu', torch.bfloat16):
        assert redundancy(tokens.bfloat16()).dtype == torch.float32


def test_outliers_stay_and_keep_their_ids_whatever_the_order():
    torch.manual_seed(0)
    x = torch.randn(1, 1, 8) + .01 * torch.randn(2, 10, 8)
    x[0, 4], x[1, 7] = -x[0, 4], torch.randn(8)
    order = torch.stack([torch.randperm(10), torch.randperm(10)])
    drop = TokenDrop((1,), 2, .9)
    layout = TokenLayout((2, 10), 0, order + 5)
    x = x[torch.arange(2)[:, None], order]
    same, unchanged = drop(0, x, layout)
    assert same is x and unchanged is layout
    kept, layout = drop(1, x, layout)
    assert layout.ids.tolist() == [[4 + 5], [7 + 5]]
    assert torch.equal(kept[0], x[0][order[0] == 4])


def test_class_tokens_are_neither_scored_nor_dropped():
    torch.manual_seed(0)
    x = torch.randn(3, 1 + 8, 16)
    drop = TokenDrop((0,), 1, .5)
    kept, layout = drop(0, x, TokenLayout((2, 4), 1))
    alone, same = drop(0, x[:, 1:], TokenLayout((2, 4), 0))
    assert torch.equal(kept[:, :1], x[:, :1])
    assert torch.equal(kept[:, 1:], alone) and torch.equal(layout.ids, same.ids)
    for row in range(3):
        assert torch.equal(alone[row], x[row, 1:][same.ids[row]])


def test_random_drops_as_many_others():
    torch.manual_seed(0)
    x = torch.randn(64, 8, 4)
    kept, layout = TokenDrop((0,), 1, .5, 'random')(0, x, TokenLayout((2, 4), 0))
    assert kept.shape == (64, 4, 4)
    assert torch.equal(layout.ids.unique(), torch.arange(8))
    assert not torch.equal(
        layout.ids, TokenDrop((0,), 1, .5)(0, x, TokenLayout((2, 4), 0))[1].ids)


def test_refusals():
    with pytest.raises(ValueError, match="placement 'last'.*start"):
        drop_placement(12, 3, 'last')
    for indices in ((3, 3), (12,), (-1, 2), ()):
        with pytest.raises(ValueError, match='rising layers from 0 to 11'):
            TokenDrop(indices, 12, .5)
    with pytest.raises(ValueError, match='ratio of 1.*below 1'):
        TokenDrop((0,), 12, 1.)
    with pytest.raises(ValueError, match="'norm'.*redundancy"):
        TokenDrop((0,), 12, .5, 'norm')
    with pytest.raises(ValueError, match='leaves none of 1 tokens'):
        TokenDrop((0, 1, 2), 12, .5).counts(7)


def vit(**kwargs):
    torch.manual_seed(0)
    model = MaskedViT(ARCH, img_size=32, patch_size=8, out_type='avg_featmap', **kwargs)
    model.init_weights()
    for parameter in model.parameters():
        parameter.data.add_(.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize('training', [False, True])
def test_ratio_0_is_the_plain_backbone_to_the_bit(training):
    model = vit(drop_ratio=0., drop_indices=(1, 3))
    plain = vit()
    stock = VisionTransformer(ARCH, img_size=32, patch_size=8, out_type='avg_featmap')
    stock.load_state_dict(model.state_dict(), strict=True)
    images = torch.randn(2, 3, 32, 32)
    for other in (plain, stock):
        other.train(training), model.train(training)
        outputs, expected = model(images)[0], other(images)[0]
        assert torch.equal(outputs, expected)
        outputs.sum().backward(), expected.sum().backward()
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(a.grad, b.grad)
        model.zero_grad()


def test_one_checkpoint_serves_every_ratio():
    model = vit(drop_ratio=.4)
    assert model.token_drop.indices == (0, 2, 3)
    plain = vit()
    plain.load_state_dict(model.state_dict(), strict=True)
    images = torch.randn(2, 3, 32, 32)
    lengths, outputs = [], []
    for layer in model.layers:
        layer.attn.register_forward_hook(
            lambda _, inputs, __: lengths.append(inputs[0].size(1)))
    for ratio in (0., .25, .5):
        model.drop_ratio = ratio
        outputs.append(model(images)[0])
    # 16 tokens and a class token; drops after layers 0, 2 and 3.
    assert lengths == [17] * 6 + [17, 13, 13, 10, 7, 7] + [17, 9, 9, 5, 3, 3]
    assert torch.equal(outputs[0], plain(images)[0])
    assert not torch.allclose(outputs[1], outputs[2])


def test_the_pooled_tokens_are_those_that_stay():
    """One drop after the last layer: the mean over the kept tokens alone."""
    model = vit(drop_ratio=.75, drop_indices=(5,), final_norm=False)
    images = torch.randn(2, 3, 32, 32)
    output = model(images)[0]
    model.drop_ratio, model.out_type = 0., 'raw'
    tokens = model(images)[0][:, 1:]
    kept = redundancy(tokens).argsort(1)[:, :4]
    pooled = tokens[torch.arange(2)[:, None], kept].mean(1)
    torch.testing.assert_close(output, model.ln2(pooled))


def test_every_weight_learns():
    model = vit(drop_ratio=.3, drop_path_rate=.1, final_norm=False).train()
    model(torch.randn(2, 3, 32, 32))[0].square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_feature_maps_have_no_holes():
    with pytest.raises(ValueError, match="drop_ratio 0.2 with out_type 'featmap'"):
        MaskedViT(ARCH, img_size=32, patch_size=8, drop_ratio=.2)
    model = MaskedViT(ARCH, img_size=32, patch_size=8)
    with pytest.raises(ValueError, match='dense tasks'):
        model.drop_ratio = .2


def test_the_exported_graph_serves_other_images_of_the_size():
    """What an exporter records holds no decision that an image has taken."""
    model = vit(drop_ratio=.3)
    first, second = torch.randn(2, 2, 3, 32, 32)
    program = torch.export.export(model, (first,)).module()
    assert torch.equal(program(second)[0], model(second)[0])


def test_onnx_agrees(tmp_path):
    runtime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    model = vit(drop_ratio=.3)
    first, second = torch.randn(2, 2, 3, 32, 32)
    path = tmp_path / 'vit.onnx'
    torch.onnx.export(model, (first,), path, input_names=['images'], dynamo=True)
    session = runtime.InferenceSession(path, providers=['CPUExecutionProvider'])
    output, = session.run(None, dict(images=second.numpy()))
    torch.testing.assert_close(
        torch.from_numpy(output), model(second)[0], atol=1e-3, rtol=0)
