# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Stages of whole iterations against counts of the step as a whole."""
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmeffmae.benchmarks.cost_map import STAGES, map_costs, step_config
from mmeffmae.benchmarks.step_time import started_runner
from mmeffmae.evaluation.cost import count_macs

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def rates(monkeypatch):
    """They take seconds to measure."""
    for name in ('peak_flops', 'peak_bandwidth'):
        monkeypatch.setattr(f'mmeffmae.benchmarks.cost_map.{name}', lambda *args: 1e9)


@pytest.fixture
def path(tiny_cfg, tmp_path):
    """A tiny MAE with a decorrelated encoder."""
    cfg = tiny_cfg(dict(custom_hooks=[
        dict(type='mmeffmae.DecorrelationHook', num_samples=8)]))
    cfg.dump(tmp_path / 'tiny.py')
    return tmp_path / 'tiny.py'


def test_stages_make_the_step(path, image_folder, tmp_path):
    config = step_config(str(path), None, 4, str(image_folder))
    result = map_costs(config, tmp_path / 'run', rounds=2)
    stages = result['stages']
    assert list(stages) == [s for s in STAGES if s != 'teacher']
    assert (result['images'], result['image_size']) == (4, [32, 32])
    # Encoder and decoder by hand: forward, and twice that backward; the stem
    # has no gradient of its input, and folded weights one of theirs alone.
    model = started_runner(
        step_config(str(path), {'custom_hooks': []}, 4, str(image_folder)),
        tmp_path / 'plain').model
    plain = count_macs(model, torch.randn(4, 3, 32, 32))
    stem = 4 * 192 * 32
    assert stages['stem']['macs'] == 4 * 2 * stem
    assert stages['decoder']['macs'] == 4 * 3 * plain['decoder']
    assert stages['encoder']['macs'] > 4 * 3 * (plain['encoder'] - stem)
    assert stages['decorrelation']['macs'] > 0
    assert stages['decoder']['saved_bytes'] > 0 == stages['target']['saved_bytes']
    step = sum(
        of[f'{way}_seconds']['min'] for name, of in stages.items()
        for way in ('forward', 'backward') if name != 'data')
    assert step <= result['step_seconds']['max']
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert stages['optimizer']['floor_seconds'] == pytest.approx(
        28 * trained / result['peak']['bandwidth'])


def test_timed_iterations_write_no_checkpoint(path, image_folder, tmp_path):
    """They would be the most of a small model's step."""
    runner = started_runner(
        step_config(str(path), None, 2, str(image_folder)), tmp_path / 'run')
    batch = next(iter(runner.train_loop.dataloader))
    for _ in range(2):
        runner.train_loop.run_iter(dict(batch))
    assert not [*(tmp_path / 'run').rglob('*.pth')]


def test_backward_of_grouped_convolutions_is_counted_by_group():
    from torch.utils.flop_counter import FlopCounterMode

    from mmeffmae.benchmarks.cost_map import _conv_backward_flops
    counted = {torch.ops.aten.convolution_backward: _conv_backward_flops}
    layer = torch.nn.Conv2d(8, 16, 3, padding=1, groups=4)
    images = torch.randn(2, 8, 5, 5, requires_grad=True)
    with FlopCounterMode(display=False, custom_mapping=counted) as counter:
        loss = layer(images).sum()
        forward = counter.get_total_flops()
        loss.backward()
    assert forward == 2 * 2 * 16 * 25 * 2 * 9
    assert counter.get_total_flops() == 3 * forward


def test_tool_writes_a_shard(path, tmp_path, monkeypatch, capsys):
    name = str(ROOT / 'tools/benchmarks/cost_map.py')
    shard = tmp_path / 'new/cost.json'
    monkeypatch.setattr(sys, 'argv', [
        name, str(path), '--batch-size', '2', '--rounds', '1', '--cfg-options',
        'model.neck.decoder_depth=2', 'custom_hooks=[]', '--json', str(shard)])
    runpy.run_path(name, run_name='__main__')
    result = json.loads(shard.read_text())
    config, = result['configs']
    assert config['name'] == 'tiny' and result['images'] == 'noise of 500 x 375 px'
    assert 'cost_map.py' in result['command'] and result['batch_size'] == 2
    assert Config.fromfile(path).model.neck.decoder_depth == 1
    assert '| encoder |' in capsys.readouterr().out
