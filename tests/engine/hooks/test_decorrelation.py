# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Whole runs with DecorrelationHook."""
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.optim import OptimWrapper
from mmengine.runner import load_checkpoint
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mmeffmae.checkpoint.export import build_encoder, export_backbone
from mmeffmae.compat import is_resuming
from mmeffmae.engine.decorrelation import (
    DecorrelationError,
    DecorrelationSettings,
    Decorrelator,
)
from mmeffmae.engine.hooks import DecorrelationHook
from mmeffmae.registry import MODELS

ROOT = Path(__file__).parents[3]
HOOK = dict(type='mmeffmae.DecorrelationHook', eta=.05, num_samples=8)


def with_hook(tiny_cfg, changes=None, **settings):
    return tiny_cfg({**(changes or {}), 'custom_hooks': [{**HOOK, **settings}]})


def raw_state(runner):
    """All that training goes on from, without folding."""
    model = runner.model
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    optimizer = runner.optim_wrapper.optimizer.state_dict()['state']
    for number, state in optimizer.items():
        tensors.update({f'{number}.{k}': v for k, v in state.items()})
    return tensors


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize('changes', [
    dict(), dict(optim_wrapper=dict(accumulative_counts=2))],
    ids=['each', 'accumulated'])
def test_resume_is_exact(changes, tiny_cfg, build_runner, tmp_path):
    unbroken = build_runner(with_hook(tiny_cfg, changes, update_interval=2))
    unbroken.train()
    assert any((m - torch.eye(m.size(-1))).norm() > 1e-3 for n, m in
               unbroken.model.named_buffers() if 'decorrelation' in n)
    cfg = with_hook(tiny_cfg, changes, update_interval=2)
    cfg.resume, cfg.load_from = True, str(tmp_path / 'run/epoch_1.pth')
    resumed = build_runner(cfg)
    assert is_resuming(resumed)
    resumed.train()
    assert_equal(raw_state(unbroken), raw_state(resumed))


def test_checkpoint_holds_folded_weights(tiny_cfg, build_runner, tmp_path):
    runner = build_runner(with_hook(tiny_cfg, patch_embed=True, fc2_blocks=2))
    runner.train()
    path = tmp_path / 'run/epoch_2.pth'
    content = torch.load(path, weights_only=False)
    encoder = build_encoder(runner.cfg, trusted=True).eval()
    names = set(encoder.state_dict())
    assert {n[9:] for n in content['state_dict'] if n[:9] == 'backbone.'} == names
    section = content['decorrelation']
    assert section['num_steps'] == 12 and len(section['layers']) == 2 * 4 + 1
    name, raw = next(iter(section['layers'].items()))
    assert not torch.equal(raw['weight'], content['state_dict'][f'{name}.weight'])

    # A plain model computes the same, and so does a new decorrelated run.
    model = MODELS.build(runner.cfg.model)
    load_checkpoint(model, str(path), strict=True)
    images = torch.randn(2, 3, 32, 32)
    ours = runner.model.backbone.eval()(images)[0]
    assert torch.allclose(model.backbone.eval()(images)[0], ours, atol=1e-5)
    result = export_backbone(path)
    assert result.feature_error < 1e-5
    exported = torch.load(result.path, weights_only=True)['state_dict']
    assert {n.removeprefix('backbone.') for n in exported} == names

    cfg = with_hook(tiny_cfg, patch_embed=True, fc2_blocks=2, eta=0.)
    cfg.load_from, cfg.work_dir = str(path), str(tmp_path / 'again')
    cfg.optim_wrapper.optimizer.lr = 1e-9
    again = build_runner(cfg)
    again.train()
    layer = again.model.backbone.layers[0].attn.qkv
    assert torch.equal(layer.decorrelation[0], torch.eye(32))
    assert torch.allclose(again.model.backbone.eval()(images)[0], ours, atol=1e-5)


def test_rate_zero_is_the_run_without_the_hook(tiny_cfg, build_runner):
    states = []
    for cfg in (with_hook(tiny_cfg, eta=0.), tiny_cfg()):
        runner = build_runner(cfg)
        runner.train()
        states.append(runner.model.state_dict())
    assert_equal(*states)


def test_resume_of_a_plain_run_starts_with_the_identity(
        tiny_cfg, build_runner, tmp_path):
    build_runner(tiny_cfg()).train()
    cfg = with_hook(tiny_cfg)
    cfg.resume, cfg.load_from = True, str(tmp_path / 'run/epoch_1.pth')
    runner = build_runner(cfg)
    hook = next(h for h in runner.hooks if isinstance(h, DecorrelationHook))
    runner.train()
    assert runner.iter == 12 and hook.decorrelator.num_steps == 6
    # Other layers than the first run's are refused.
    cfg = with_hook(tiny_cfg, include=['backbone.*.qkv'])
    cfg.resume, cfg.load_from = True, str(tmp_path / 'run/epoch_2.pth')
    with pytest.raises(DecorrelationError, match='6 layers and this run 2'):
        build_runner(cfg).train()


def test_monitors_are_logged_and_drawn(tiny_cfg, build_runner, tmp_path, capsys):
    runner = build_runner(with_hook(tiny_cfg, log_interval=4, kappa=.2))
    runner.train()
    file, = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    name = 'decorrelation/distance/backbone.layers.1.ffn.layers.0.0'
    assert [line['step'] for line in lines if name in line] == [4, 8, 12]
    distances = [line[name] for line in lines if name in line]
    assert 0 < distances[0] < distances[2]
    assert runner.message_hub.get_scalar('train/decor_variance').current() > 0
    picture = tmp_path / 'monitors.png'
    tool = runpy.run_path(str(ROOT / 'tools/analysis/plot_decorrelation.py'))
    tool['main']([str(tmp_path / 'run'), '--out', str(picture)])
    assert picture.read_bytes()[:4] == b'\x89PNG'
    assert '6 layers' in capsys.readouterr().out


def test_converts_once(tiny_cfg, build_runner):
    runner = build_runner(with_hook(tiny_cfg))
    runner.train()
    layer = runner.model.backbone.layers[0].attn.qkv
    runner.call_hook('before_run')
    assert runner.model.backbone.layers[0].attn.qkv is layer


def test_supervised_training(tiny_cfg, build_runner, image_folder):
    backbone = dict(
        type='mmpretrain.VisionTransformer', img_size=32, patch_size=8,
        out_type='cls_token', arch=dict(embed_dims=32, num_layers=2, num_heads=2,
                                        feedforward_channels=64))
    cfg = with_hook(tiny_cfg, dict(
        model=dict(_delete_=True, type='ImageClassifier', backbone=backbone,
                   head=dict(type='LinearClsHead', num_classes=2, in_channels=32)),
        data_preprocessor=dict(_delete_=True, num_classes=2)), fc2_blocks=1)
    cfg.train_dataloader.dataset.type = 'mmeffmae.LabelledImages'
    cfg.train_cfg.max_epochs = 1
    runner = build_runner(cfg)
    runner.train()
    for name in ('attn.qkv', 'ffn.layers.1'):
        matrix = runner.model.get_submodule(
            f'backbone.layers.1.{name}').decorrelation[0]
        assert not torch.equal(matrix, torch.eye(len(matrix)))


@pytest.mark.parametrize('enabled', [True, False])
def test_products_with_r_are_in_tf32_under_autocast_alone(
        enabled, tiny_cfg, build_runner):
    cfg = with_hook(tiny_cfg)
    cfg.optim_wrapper.update(type='mmeffmae.BFloat16OptimWrapper', enabled=enabled)
    before = torch.get_float32_matmul_precision()
    try:
        build_runner(cfg).train()
        after = torch.get_float32_matmul_precision()
    finally:
        torch.set_float32_matmul_precision(before)
    assert (before, after) == ('highest', 'high' if enabled else 'highest')


def test_averages_and_shards_are_refused_by_name(tiny_cfg, build_runner):
    cfg = with_hook(tiny_cfg)
    cfg.custom_hooks.append(dict(type='EMAHook'))
    with pytest.raises(DecorrelationError, match='hook EMAHook .*remove it'):
        build_runner(cfg).train()

    cfg = with_hook(tiny_cfg)
    cfg.custom_hooks.append(dict(type='mmeffmae.DecorrelationHook', include=['*.qkv']))
    with pytest.raises(DecorrelationError, match='two DecorrelationHooks'):
        build_runner(cfg).train()

    class Fake:
        hooks, model = (), None

    class FlexibleRunner(Fake):
        pass

    class MMFullyShardedDataParallel(nn.Module):
        pass

    class FullyShardedDataParallel(MMFullyShardedDataParallel):
        pass

    sharded = Fake()
    sharded.model = FullyShardedDataParallel()
    for runner, name in ((FlexibleRunner(), 'FlexibleRunner'),
                         (sharded, 'FullyShardedDataParallel')):
        with pytest.raises(DecorrelationError, match=name):
            DecorrelationHook().before_run(runner)


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))


def train_steps(model, inner, num_samples, batches):
    wrapper = OptimWrapper(torch.optim.SGD(inner.parameters(), lr=.1))
    decorrelator = Decorrelator(inner, wrapper, DecorrelationSettings(
        eta=.2, include=['*'], num_samples=num_samples))
    with torch.no_grad():  # as if each rank had drawn its own weights
        inner[0].weight.add_(get_rank())
    decorrelator.synchronise()
    for batch in batches:
        wrapper.update_params(model(batch).square().mean())
    return decorrelator.state_dict()['layers']


def batches_of(num_rows):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(num_rows, 6, generator=generator) + 1 for _ in range(5)]


def _work_on_a_rank(rank, folder, num_rows):
    distributed.init_process_group(
        'gloo', f'file://{folder}/store{num_rows}', rank=rank, world_size=2)
    half = num_rows // 2
    batches = [b[rank * half:(rank + 1) * half] for b in batches_of(num_rows)]
    model = perceptron()
    parallel = DistributedDataParallel(model, broadcast_buffers=False)
    state = train_steps(parallel, model, num_rows, batches)
    torch.save(state, folder / f'{num_rows}_{rank}.pth')
    distributed.barrier()
    os._exit(0)  # Gloo's destructors wait for each other, now and then for ever.


@pytest.mark.parametrize('num_rows', [8, 80], ids=['gather', 'reduce'])
def test_two_processes_learn_as_one_on_all_data(num_rows, tmp_path):
    """Different rows on every rank, equal matrices, those of the pool."""
    # New interpreters: a fork of a process with threads can hang.
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path), str(num_rows)])
        for rank in range(2)
    ]
    for worker in workers:
        assert worker.wait(240) == 0
    states = [torch.load(tmp_path / f'{num_rows}_{rank}.pth') for rank in range(2)]
    model = perceptron()
    pooled = train_steps(model, model, num_rows, batches_of(num_rows))
    for name, expected in pooled.items():
        ours, theirs = (state[name]['decorrelation'] for state in states)
        assert torch.equal(ours, theirs)
        assert torch.allclose(ours, expected['decorrelation'], atol=1e-5)
        assert torch.equal(*(state[name]['weight'] for state in states))
        assert not torch.allclose(ours[0], torch.eye(len(ours[0])), atol=1e-2)


def test_controls_change_the_hook_of_the_config():
    from mmeffmae.benchmarks.study import Study
    study = Study.from_file(ROOT / 'benchmarks/arms/scale_c.py')
    hooks = {
        arm: [h for h in study.config(arm).get('custom_hooks') or []
              if h['type'] == HOOK['type']] for arm in study.arms
    }
    assert hooks['dbp-eta0'][0].eta == 0 and hooks['dbp-kappa1'][0].kappa == 1
    assert hooks['dbp'][0].eta > 0 and not hooks['mae'] and not hooks['muon']
    assert len({study.setting(arm) for arm in study.arms}) == len(study.arms)


def test_the_lists_of_both_arms_are_the_same():
    files = [Config.fromfile(ROOT / f'configs/dbp_mae/{name}mae_vit-base-p16_8xb128-'
                             'amp-coslr-300e_in1k-10pct.py') for name in ('', 'dbp-')]
    plain, decorrelated = files
    assert not plain.custom_hooks and decorrelated.custom_hooks
    assert plain.train_dataloader == decorrelated.train_dataloader
    assert plain.train_dataloader.dataset.ann_file == 'train_10percent.txt'


if __name__ == '__main__':
    _work_on_a_rank(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
