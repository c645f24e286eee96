# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch
from mmcv.cnn.bricks.drop import DropPath
from mmengine.config import ConfigDict

from mmeffmae.masking import RandomMasking
from mmeffmae.models import MaskedViT, WindowedViT
from mmeffmae.models.backbones.windowed_vit import join_windows, split_windows
from mmeffmae.models.layers import TokenLayout

PARTS = dict(
    arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=16),
    img_size=32, patch_size=8, final_norm=False, out_indices=(1, 3))


@pytest.fixture
def pair():
    """A MaskedViT and a function that makes a WindowedViT of its weights."""
    torch.manual_seed(0)
    plain = MaskedViT(**PARTS)
    plain.init_weights()
    for parameter in plain.parameters():  # so that biases count
        parameter.data.add_(torch.randn_like(parameter), alpha=.1)

    def windowed(**options):
        model = WindowedViT(**PARTS, **options)
        assert not model.load_state_dict(plain.state_dict(), strict=True).missing_keys
        return model.eval()

    return plain.eval(), windowed


def test_windows_are_cut_and_joined_in_place():
    tokens = torch.arange(15.).reshape(1, 15, 1)  # 3 rows of 5
    windows, split = split_windows(tokens, (3, 5), 2)
    assert split == (2, 2, 3, 2)
    assert windows.squeeze(-1).tolist() == [
        [0, 1, 5, 6], [2, 3, 7, 8], [4, 0, 9, 0],
        [10, 11, 0, 0], [12, 13, 0, 0], [14, 0, 0, 0]]
    assert torch.equal(join_windows(windows, (3, 5), split), tokens)


@pytest.mark.parametrize('size', [(32, 32), (24, 48)])
def test_a_window_over_the_map_equals_global_attention(pair, size):
    plain, windowed = pair
    images = torch.rand(2, 3, *size)
    for ours, theirs in zip(windowed(window_size=6)(images), plain(images)):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    every = windowed(window_size=2, global_layers=[0, 1, 2, 3])(images)
    torch.testing.assert_close(every[-1], plain(images)[-1])


def test_stochastic_depth_takes_part_with_a_plan():
    """Of attention and feed-forward in every layer but the first."""
    plan = RandomMasking(.5)(torch.rand(2, 4, 4))
    calls = []
    for kind in (MaskedViT, WindowedViT):
        model = kind(**PARTS, drop_path_rate=.5).train()
        for module in model.modules():
            if isinstance(module, DropPath):
                module.register_forward_hook(lambda *_, kind=kind: calls.append(kind))
        model(torch.rand(2, 3, 32, 32), plan)
    assert [calls.count(kind) for kind in (MaskedViT, WindowedViT)] == [8, 8]


def test_windows_do_not_see_each_other(pair):
    _, windowed = pair
    model = windowed(window_size=2, global_layers=[])
    model.with_cls_token, model.num_extra_tokens = False, 0
    model.cls_token = None
    model.pos_embed = torch.nn.Parameter(model.pos_embed[:, 1:])
    images = torch.rand(1, 3, 32, 32)
    changed = images.clone()
    changed[..., :16, :16] += 1
    differs = (model(images)[-1] != model(changed)[-1]).any(1)[0]
    assert differs.tolist() == [[True, True, False, False]] * 2 + [[False] * 4] * 2


def test_default_global_layers_are_the_last_of_each_quarter():
    arch = dict(PARTS['arch'], num_layers=12)
    model = WindowedViT(**dict(PARTS, arch=arch))
    layers = [i for i, windowed in enumerate(model.windowed) if not windowed]
    assert layers == [2, 5, 8, 11]
    with pytest.raises(ValueError, match=r'global_layers \[12\]'):
        WindowedViT(**dict(PARTS, arch=arch, global_layers=[2, 12]))
    with pytest.raises(ValueError, match='window_size 0'):
        WindowedViT(**PARTS, window_size=0)


def test_stochastic_depth_drops_images_and_a_plan_is_encoded_globally(pair):
    plain, windowed = pair
    model = windowed(window_size=2, drop_path_rate=.99).train()
    torch.manual_seed(0)
    x = model(torch.rand(8, 3, 32, 32))[-1]
    assert x.isfinite().all()
    assert all(isinstance(model.layers[i].attn.out_drop, torch.nn.Identity)
               for i, w in enumerate(model.windowed) if w)
    plan = RandomMasking(0.75)(torch.rand(2, 4, 4))
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model.eval()(images, plan), plain(images, plan))


def test_shared_attention_and_checkpointing_work_in_windows():
    settings = ConfigDict(PARTS, share_attn=2, window_size=2)
    torch.manual_seed(0)
    model = WindowedViT(**settings)
    model.init_weights()
    twin = WindowedViT(**settings, with_cp=True)
    twin.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, 40, 32)
    for one in (model, twin):
        sum(out.square().mean() for out in one(images)).backward()
    for ours, theirs in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_convolutions_of_the_feed_forward_part_cross_windows():
    parts = dict(PARTS, ffn=dict(type='mmeffmae.ConvFFN'),
                 stem=dict(type='mmeffmae.ConvStem'))
    torch.manual_seed(0)
    plain = MaskedViT(**parts)
    plain.init_weights()
    for layer in plain.layers:  # the convolutions start at zero
        torch.nn.init.normal_(layer.ffn.dwconv.weight, std=.5)
    images = torch.rand(2, 3, 24, 40)
    one_window = WindowedViT(**parts, window_size=5)
    one_window.load_state_dict(plain.state_dict())
    expected = plain.eval()(images)
    for ours, theirs in zip(one_window.eval()(images), expected):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    many = WindowedViT(**parts, window_size=2, global_layers=[])
    many.load_state_dict(plain.state_dict())
    twin = WindowedViT(**parts, window_size=2, global_layers=[], with_cp=True)
    twin.load_state_dict(plain.state_dict())
    for model in (many, twin):
        sum(out.square().mean() for out in model(images)).backward()
    for ours, theirs in zip(many.parameters(), twin.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)

    # Only the convolution brings news of the left window to the right one.
    tokens = torch.rand(1, 1 + 8, 16)  # class token, 2 rows of 4
    changed = tokens.clone()
    changed[:, [2, 6]] += 1  # second column
    layout = TokenLayout((2, 4), 1)
    with torch.no_grad():
        differs = (many._layer(0, tokens, layout) !=
                   many._layer(0, changed, layout)).any(-1)[0, 1:]
    assert differs.tolist() == [True, True, True, False] * 2
