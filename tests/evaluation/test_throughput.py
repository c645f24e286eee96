# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Counted costs against numbers worked out by hand, and the tool on tiny models.

Nothing here depends on how fast the machine is.
"""
import gc
import json
import runpy
import sys
import weakref
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmeffmae.config_hash import config_hash
from mmeffmae.evaluation.building import build_model
from mmeffmae.evaluation.cost import count_macs, count_parameters, saved_bytes
from mmeffmae.evaluation.peers import PEERS
from mmeffmae.evaluation.throughput import build_arm, interleave, time_arms
from mmeffmae.registry import MODELS

ROOT = Path(__file__).parents[2]
TINY = """
default_scope = 'mmpretrain'
model = dict(
    type='mmeffmae.MaskedAutoencoder',
    backbone=dict(
        type='mmeffmae.MaskedViT',
        arch=dict(embed_dims=32, num_layers=2, num_heads=2,
                  feedforward_channels=64),
        img_size=32, patch_size=8),
    neck=dict(type='mmeffmae.MaskedDecoder', decoder_embed_dim=16,
              decoder_depth=1, decoder_num_heads=2),
    head=dict(type='mmeffmae.PixelHead'),
    masking=dict(type='mmeffmae.RandomMasking'))
optim_wrapper = dict(
    type='mmeffmae.BFloat16OptimWrapper',
    accumulative_counts=8,
    optimizer=dict(type='AdamW', lr=1e-3))
auto_scale_lr = dict(base_batch_size=256)
"""
EMAE = """
_base_ = ['./mae.py']
model = dict(
    head=dict(consistency=dict(type='mmeffmae.SelfConsistencyLoss')),
    masking=dict(_delete_=True, type='mmeffmae.ParallelMasking', num_parts=4))
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'mae.py').write_text(TINY)
    (tmp_path / 'emae.py').write_text(EMAE)
    return tmp_path


@pytest.fixture
def config(folder):
    return Config.fromfile(folder / 'mae.py')


@pytest.fixture
def tool(monkeypatch):
    """Run the tool as a script, in this process to spare the imports."""

    def run(*arguments):
        name = str(ROOT / 'tools/benchmarks/throughput.py')
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(name, run_name='__main__')

    return run


def transformer_macs(tokens, width, depth, hidden):
    """Projections, feed-forward and the two products of attention."""
    return depth * (
        4 * tokens * width**2 + 2 * tokens * width * hidden + 2 * tokens**2 * width)


def test_macs_of_a_tiny_mae_by_hand(config):
    model = build_model(config).train()
    counts = count_macs(model, torch.randn(2, 3, 32, 32))
    # 4 of 16 patches of 8 x 8 x 3 pixels and a class token.
    encoder = 4 * 192 * 32 + transformer_macs(5, 32, 2, 64)
    decoder = 5 * 32 * 16 + transformer_macs(17, 16, 1, 64) + 12 * 16 * 192
    decoder -= 5 * 2 * 16 * 64  # the last feed-forward sees predicted tokens only
    assert counts == dict(encoder=encoder, decoder=decoder, total=encoder + decoder)


@pytest.mark.parametrize('num_parts, ratio, encoder, decoder', [
    (None, None, 4.322, 5.248), (4, 1., 17.287, 20.993), (4, .25, 17.287, 8.616)])
def test_macs_of_vit_base(num_parts, ratio, encoder, decoder):
    """4.29 GMACs of a quarter of the patches, and 0.03 of their embedding.

    The decoder of the original has 5.37: we predict masked patches only, and
    leave the visible tokens out of the last feed-forward.
    """
    config = Config.fromfile(ROOT / 'configs/_base_/models/mae_vit-base-p16.py')
    if num_parts:
        config.model.masking = dict(
            type='mmeffmae.ParallelMasking', num_parts=num_parts, decode_ratio=ratio)
    with torch.device('meta'):  # shapes alone: no memory, no arithmetic
        model = MODELS.build(config.model)
        counts = count_macs(model, torch.randn(1, 3, 224, 224))
    assert counts['encoder'] / 1e9 == pytest.approx(encoder, abs=1e-3)
    assert counts['decoder'] / 1e9 == pytest.approx(decoder, abs=1e-3)
    assert count_parameters(model)['total'] == 111_907_840


def test_parameters_count_once_and_a_teacher_apart(config):
    model = build_model(config)
    counts = count_parameters(model)
    assert counts['total'] == counts['encoder'] + counts['decoder']
    model.teacher = nn.Linear(3, 4)
    model.again = model.teacher
    assert count_parameters(model) == dict(
        counts, teacher=16, total=counts['total'] + 16)


class Product(nn.Module):

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5, 7))

    def forward(self, x):
        hidden = x @ self.weight.t()  # keeps x: 6 x 7, and the weight
        hidden = hidden * hidden[:, :1]  # keeps the product and a view of it
        return hidden.exp().sum()  # keeps the result of exp


def test_saved_bytes_by_hand():
    model, x = Product(), torch.randn(6, 7)
    size = saved_bytes(model, lambda: model(x))
    assert size == 4 * (6 * 7 + 6 * 5 + 6 * 5)
    with torch.no_grad():
        assert saved_bytes(model, lambda: model(x)) == 0


def test_what_is_counted_is_freed():
    """Though ``exp`` keeps its own result."""
    model, kept = Product(), []

    def compute():
        hidden = model(torch.randn(6, 7)).exp()
        kept.append(weakref.ref(hidden))
        return hidden.sum()

    saved_bytes(model, compute)
    gc.collect()
    assert kept[0]() is None


def test_arms_take_turns():
    """A clock that a step of arm ``a`` moves by 1 and one of ``b`` by 3."""
    now, order, checked = [0.], [], []

    def step(name, duration):
        def run():
            order.append(name)
            now[0] += duration
            return len(order)
        return run

    seconds = interleave(
        [step('a', 1.), step('b', 3.)], rounds=2, repeats=2, read=lambda: now[0],
        after=lambda arm, value: checked.append((arm, value)))
    assert order == list('aabbaabb')
    assert seconds == [[1., 1.], [3., 3.]]
    assert checked == [(0, 2), (1, 4), (0, 6), (1, 8)]


def test_a_step_trains_with_the_rate_of_its_batch(config):
    device = torch.device('cpu')
    arm = build_arm('mae', config, batch_size=4, device=device)
    before = arm.model.neck.mask_token.detach().clone()
    arm.step()
    assert not torch.equal(before, arm.model.neck.mask_token)
    assert arm.optim_wrapper.get_lr()['lr'] == [pytest.approx(1e-3 * 4 / 256)]
    assert config.optim_wrapper.accumulative_counts == 8
    arm.images.fill_(float('inf'))
    with pytest.raises(FloatingPointError, match='loss of mae is nan'):
        time_arms([arm], 1, 1, device)


def test_the_update_of_decorrelation_is_in_the_step(config):
    config.custom_hooks = [dict(type='mmeffmae.DecorrelationHook', num_samples=8)]
    plain = build_arm('mae', config, 4, torch.device('cpu')).counts['macs']
    arm = build_arm('dbp', config, batch_size=4, device=torch.device('cpu'))
    matrix = arm.model.backbone.layers[0].attn.qkv.decorrelation
    before = matrix.clone()
    arm.step()
    assert not torch.equal(before, matrix) and arm.counts['macs'] == plain


def with_model(config, settings):
    preprocessor = dict(type='mmpretrain.SelfSupDataPreprocessor')
    model = dict(settings, data_preprocessor=preprocessor)
    return Config(dict(config.to_dict(), model=model))


def test_mae_peer_has_our_sizes(config):
    model = build_model(config)
    settings, _ = PEERS['mmpretrain-mae'](config, model)
    peer = build_model(with_model(config, settings))
    peer.load_state_dict(model.state_dict(), strict=True)
    latent, mask, _ = peer.backbone(torch.randn(1, 3, 32, 32))
    assert latent.shape == (1, 5, 32) and mask.sum() == 12


def test_simmim_peer_follows_a_swin_and_is_published_otherwise(config):
    settings, note = PEERS['mmpretrain-simmim'](config, nn.Identity())
    assert settings['backbone']['arch'] == 'base'
    assert settings['backbone']['img_size'] == 192
    assert settings['neck']['in_channels'] == 1024 and 'no Swin' in note
    config.model.backbone = dict(type='mmeffmae.UMSwin', arch='tiny', img_size=224)
    settings, note = PEERS['mmpretrain-simmim'](config, nn.Identity())
    assert settings['backbone']['stage_cfgs'] == dict(block_cfgs=dict(window_size=7))
    assert settings['neck']['in_channels'] == 768 and 'no Swin' not in note


def test_simmim_peer_trains(config):
    arch = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
    config.model.backbone = dict(type='mmeffmae.UMSwin', arch=arch, img_size=64)
    settings, _ = PEERS['mmpretrain-simmim'](config, nn.Identity())
    arm = build_arm('simmim', with_model(config, settings), 2, torch.device('cpu'))
    # 3 of 4 blocks of 32 x 32 pixels are masked.
    assert [sample.mask.sum().item() for sample in arm.data_samples] == [192, 192]
    assert arm.step().isfinite() and arm.counts['views'] == 1
    # A 1 x 1 convolution from 2 x 2 x 64 to 32 x 32 x 3 values a place.
    assert arm.counts['macs']['decoder'] == 2 * 2 * 64 * 32 * 32 * 3


def test_tool_compares_configs_with_mmpretrain(folder, tool, capsys):
    shard = folder / 'new' / 'shard.json'
    tool(folder / 'mae.py', folder / 'emae.py', '--versus', 'mmpretrain-mae',
         '--device', 'cpu', '--batch-size', 2, '--rounds', 3, '--steps', 1,
         '--cfg-options', 'model.neck.decoder_depth=2', '--json', shard)
    result = json.loads(shard.read_text())
    assert result['peer'] == 'mmpretrain-mae' and result['batch_size'] == 2
    assert 'throughput.py' in result['command'] and result['machine']['cores'] >= 1
    assert len(result['load']) == 2
    mae, emae, peer = result['arms']
    expected = Config.fromfile(folder / 'mae.py')
    expected.model.neck.decoder_depth = 2
    assert mae['config_hash'] == config_hash(expected)
    assert [arm['views'] for arm in result['arms']] == [1, 4, 1]
    assert mae['parameters'] == peer['parameters']
    for arm in result['arms']:
        seconds = arm['step_seconds']
        assert len(seconds['rounds']) == 3
        assert seconds['min'] <= seconds['q1'] <= seconds['median'] <= seconds['max']
        assert arm['images_per_second']['median'] == pytest.approx(
            2 / seconds['median'])
        assert arm['views_per_second']['median'] == pytest.approx(
            arm['views'] * arm['images_per_second']['median'])
        assert arm['saved_bytes'] > 0 and 'peak_bytes' not in arm
        assert set(arm['macs']) == {'encoder', 'decoder', 'total'}
        ratio = arm['ratio_to_peer']
        assert ratio['macs']['total'] == arm['macs']['total'] / peer['macs']['total']
    assert emae['ratio_to_peer']['macs']['encoder'] == pytest.approx(
        4 * mae['ratio_to_peer']['macs']['encoder'])
    assert peer['ratio_to_peer']['step_seconds']['median'] == 1
    assert 'images/s' in capsys.readouterr().out


def test_a_config_can_be_the_peer(folder, tool):
    shard = folder / 'shard.json'
    tool(folder / 'emae.py', '--versus', folder / 'mae.py', '--device', 'cpu',
         '--batch-size', 2, '--rounds', 1, '--steps', 1, '--amp', '--json', shard)
    result = json.loads(shard.read_text())
    assert result['peer'] == 'mae' and result['amp']
    assert [arm['name'] for arm in result['arms']] == ['emae', 'mae']


def test_variants_come_from_an_arms_file(folder, tool):
    (folder / 'arms.py').write_text("""
arms = {
    'peer': dict(config='mae.py', like='mmpretrain-mae'),
    'half': dict(config='mae.py', options={'model.masking.decode_ratio': .5}),
    'compiled': dict(config='mae.py', options={
        'custom_hooks': [dict(type='mmeffmae.CompileHook', backend='eager')]}),
}
peer = 'peer'
""")
    shard = folder / 'shard.json'
    tool('--arms', folder / 'arms.py', '--device', 'cpu', '--batch-size', 2,
         '--rounds', 1, '--steps', 1, '--json', shard)
    result = json.loads(shard.read_text())
    peer, half, compiled = result['arms']
    assert [arm['name'] for arm in result['arms']] == ['peer', 'half', 'compiled']
    assert result['peer'] == 'peer' and 'note' in peer
    # Six of twelve masked patches.
    assert half['macs']['decoder'] < .65 * compiled['macs']['decoder']
    assert half['config_hash'] != compiled['config_hash']
    for arguments in ([], [folder / 'mae.py', '--arms', folder / 'arms.py'],
                      ['--arms', folder / 'arms.py', '--leave-out', 'peer']):
        with pytest.raises(SystemExit):
            tool(*arguments)


def test_the_teacher_is_updated_in_the_timed_step(folder):
    (folder / 'pcae.py').write_text("""
_base_ = ['./mae.py']
model = dict(
    type='mmeffmae.PCAE',
    head=dict(_delete_=True, type='mmeffmae.FeatureHead'),
    masking=dict(type='mmeffmae.ComplementaryMasking'),
    teacher=dict(momentum=.5, drop_indices=(0, 1)))
""")
    config = Config.fromfile(folder / 'pcae.py')
    arm = build_arm('pcae', config, batch_size=2, device=torch.device('cpu'))
    assert set(arm.counts['macs']) == {'encoder', 'decoder', 'teacher', 'total'}
    # 12 patches, after the first layer 6; the embedding reads 12 as well.
    assert arm.counts['macs']['teacher'] == 12 * 192 * 32 + sum(
        transformer_macs(tokens, 32, 1, 64) for tokens in (12, 6))
    before = arm.model.teacher.steps.item()
    arm.step()
    assert arm.model.teacher.steps == before + 1


def test_inference_at_drop_ratios(folder, tool, capsys):
    shard = folder / 'shard.json'
    tool(folder / 'mae.py', '--drop-ratios', 0, .5, '--device', 'cpu',
         '--batch-size', 2, '--rounds', 3, '--steps', 1, '--json', shard)
    result = json.loads(shard.read_text())
    assert result['kind'] == 'inference' and result['image_size'] == [32, 32]
    plain, dropped = result['arms']
    assert plain['tokens'] == [16, 16] and dropped['tokens'] == [16, 8]
    macs = 16 * 192 * 32 + transformer_macs(17, 32, 1, 64)
    assert plain['macs'] == macs + transformer_macs(17, 32, 1, 64)
    assert dropped['macs'] == macs + transformer_macs(9, 32, 1, 64)
    assert plain['speed_ratio']['median'] == 1
    for arm in (plain, dropped):
        assert arm['images_per_second']['median'] == pytest.approx(
            2 / arm['step_seconds']['median'])
    assert 'after layers [0] by redundancy' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        tool(folder / 'mae.py', folder / 'emae.py', '--drop-ratios', 0)
