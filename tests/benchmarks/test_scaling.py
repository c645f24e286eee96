# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Predictions by hand."""
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch.utils.flop_counter import FlopCounterMode

from mmeffmae.benchmarks.scaling import Machine, Parts, Phase, count_parts, predict
from mmeffmae.benchmarks.shards import read_json
from mmeffmae.benchmarks.speed_tables import scaling_table
from mmeffmae.evaluation.building import build_model
from mmeffmae.evaluation.cost import count_macs, saved_bytes

ROOT = Path(__file__).parents[2]
PARTS = Parts(
    phases=(Phase(1., 1e9), ), weights=10**8, largest_unit=10**7, image_bytes=1e6)
MACHINE = Machine(flops=6e12, bandwidth=2.8e12, node_link=1e11, net_link=1.25e8,
                  core_images=100)


def test_page_shows_the_committed_prediction():
    shard = read_json(ROOT / 'benchmarks/scaling/in1k.json')
    assert scaling_table(shard) in (ROOT / 'docs/speed.md').read_text()


def test_one_gpu():
    """6 GFLOP an image: 1 ms; 2.8 GB for the optimizer: 1 ms."""
    run = predict(PARTS, MACHINE, 1, 1000, 100)
    assert (run['micro_batch'], run['accumulation']) == (100, 10)
    assert run['step_seconds'] == pytest.approx(1.001)
    assert run['images_per_second'] == pytest.approx(1000 / 1.001)
    assert run['memory_bytes'] == 16e8 + 100 * 1e6 and run['waited_seconds'] == 0
    assert run['cores_per_gpu'] == pytest.approx(10, abs=.1)


def test_many_gpus_wait_for_the_slowest_link():
    """Gradients of 400 MB, there and back: 0.75 s, of which 2 / 3 s are hidden."""
    run = predict(PARTS, MACHINE, 16, 16000, 1000)
    assert run['waited_seconds'] == pytest.approx(2 * 15 / 16 * .4 - 2 / 3)
    assert run['state_bytes'] == 16e8  # gradients are views of DDP's buckets
    assert predict(PARTS, MACHINE, 16, 16000, 500)['state_bytes'] == 20e8
    within = predict(PARTS, MACHINE, 8, 8000, 1000)
    assert within['waited_seconds'] == 0
    assert within['step_seconds'] == pytest.approx(1.001)


def test_the_gpus_of_a_node_share_muons_work():
    """60 GFLOP: 10 ms; an eighth, and 7 / 8 of 100 MB of updates at 100 GB/s."""
    parts = replace(PARTS, step_macs=3e10, muon_weights=5 * 10**7)
    for gpus, seconds in ((1, .01), (8, .01 / 8 + 7 / 8 * 1e-3)):
        plain, muon = (predict(of, MACHINE, gpus, 1000 * gpus, 1000)['step_seconds']
                       for of in (PARTS, parts))
        assert muon - plain == pytest.approx(seconds)
    fast = replace(MACHINE, net_link=1e20)  # each of two nodes shares for itself
    plain, muon = (predict(of, fast, 16, 16000, 1000)['step_seconds']
                   for of in (PARTS, parts))
    assert muon - plain == pytest.approx(.01 / 8 + 7 / 8 * 1e-3)


def test_sharded_and_recomputed():
    parts = replace(PARTS, phases=(Phase(1., 1e9, 5e8), ))
    run = predict(parts, MACHINE, 8, 8000, 500, sharded=True)
    assert run['state_bytes'] == 16e8 / 8 + 8e7 and run['accumulation'] == 2
    # Another sixth of the work, an eighth of the optimizer's.
    assert run['step_seconds'] == pytest.approx(1 + 1 / 6 + 1e-3 / 8)
    # 7 / 8 of 400 MB thrice, for each of two rounds, and 7 / 60 s to hide it in.
    small = replace(parts, phases=(Phase(1., 1e8, 5e7), ))
    slow = replace(MACHINE, node_link=1e9)
    waiting = predict(small, slow, 8, 8000, 500, sharded=True)
    assert waiting['waited_seconds'] == pytest.approx(7 / 8 * 1.2 * 2 - 7 / 60)
    with pytest.raises(ValueError, match='Muon needs whole matrices'):
        predict(replace(parts, muon_weights=1), MACHINE, 8, 8000, 500, sharded=True)
    with pytest.raises(ValueError, match='7 GPUs do not divide'):
        predict(parts, MACHINE, 7, 1000, 10)


def test_parts_of_a_config(tiny_cfg, tmp_path):
    plain, recomputed, both = (
        count_parts(tiny_cfg(dict(model={part: dict(with_cp=True) for part in parts})))
        for parts in ((), ('backbone', ), ('backbone', 'neck')))
    model = build_model(tiny_cfg()).train()
    macs = count_macs(model, torch.randn(1, 3, 32, 32))
    assert plain.phases == (Phase(1., macs['total']), )
    assert recomputed.phases == (Phase(1., macs['total'], macs['encoder']), )
    assert plain.weights == sum(
        p.numel() for p in model.parameters() if p.requires_grad)
    layer = model.backbone.layers[0]
    assert plain.largest_unit == max(
        sum(p.numel() for p in unit.parameters())
        for part in (layer, model.neck.decoder_blocks[0])
        for unit in (part.attn, part.ffn))
    assert plain.teacher_weights == plain.muon_weights == plain.step_macs == 0
    assert both.phases[0].recomputed_macs == macs['encoder'] + macs['decoder']
    # Recomputing keeps less.
    assert 0 < both.image_bytes < recomputed.image_bytes < plain.image_bytes


def test_teacher_and_muon():
    """A third of the work more, forward alone; 6 GFLOP a step, and one moment."""
    parts = replace(
        PARTS, phases=(Phase(1., 1e9, 0, 1e9), ), teacher_weights=10**7, step_macs=3e9,
        muon_weights=5 * 10**7, fixed_bytes=2e8)
    run = predict(parts, MACHINE, 1, 1000, 100)
    assert run['step_seconds'] == pytest.approx(1.001 + 1 / 3 + 1e-3)
    assert run['state_bytes'] == 16e8 + 4e7 - 2e8
    assert run['memory_bytes'] == run['state_bytes'] + 2e8 + 100 * 1e6


def test_each_phase_waits_for_itself():
    """A tenth of the work hides a tenth: 0.75 s less 1 / 15 s, for a quarter."""
    parts = replace(PARTS, phases=(Phase(.25, 1e8), Phase(.75, 1e9)))
    run = predict(parts, MACHINE, 16, 16000, 1000)
    small, full = (2 * 15 / 16 * .4 - hidden for hidden in (1 / 15, 2 / 3))
    assert run['waited_seconds'] == pytest.approx((small + 3 * full) / 4)
    assert run['step_seconds'] == pytest.approx(
        (.1 + small + 3 * (1 + full)) / 4 + 1e-3)
    assert run['cores_per_gpu'] == pytest.approx(1000 / (.1 + small + 1e-3) / 100)


def test_teacher_is_counted_apart():
    config = Config.fromfile(ROOT / 'configs/pcae/pcae_quick.py')
    parts, model = count_parts(config), build_model(config).train()
    macs = count_macs(model, torch.randn(1, 3, *model.backbone.img_size))
    assert parts.phases == (
        Phase(1., macs['total'] - macs['teacher'], 0, macs['teacher']), )
    assert macs['teacher'] > 0
    assert parts.teacher_weights == sum(p.numel() for p in model.teacher.parameters())
    # All but the position tables, which are fixed, learns or teaches.
    assert 0 <= sum(p.numel() for p in model.parameters()) - (
        parts.weights + parts.teacher_weights) < 1e-2 * parts.weights


def test_small_images_first_and_muon(tiny_cfg):
    plain = count_parts(tiny_cfg())
    small = count_macs(build_model(tiny_cfg()).train(), torch.randn(1, 3, 16, 16))
    cfg = tiny_cfg(dict(
        custom_hooks=[dict(type='mmeffmae.ProgressiveResolutionHook',
                           phases=[dict(until=0.8, size=16)])],
        optim_wrapper=dict(
            optimizer=dict(_delete_=True, type='mmeffmae.MuonAdamW', lr=1e-3),
            paramwise_cfg=dict(custom_keys={'qkv.weight': dict(muon=True)}))))
    parts = count_parts(cfg)
    assert [phase.macs for phase in parts.phases] == [
        small['total'], plain.phases[0].macs]
    assert [phase.share for phase in parts.phases] == pytest.approx([0.8, 0.2])
    assert parts.image_bytes == plain.image_bytes
    model = build_model(cfg)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with FlopCounterMode(display=False) as counter:
        optimizer.step()
    assert parts.step_macs == counter.get_total_flops() / 2 > 0
    assert parts.muon_weights == sum(
        p.numel() for name, p in model.named_parameters() if 'qkv.weight' in name)


@pytest.mark.parametrize('name', [
    'emae/emae_quick', 'clmae/clmae_quick', 'um_mae/um_mae_quick',
    'um_mae/simmim_swin-32x8-p8_1xb64-coslr-25e_imagenette64'])
def test_every_encoder_is_counted(name):
    """Without data as with them; and three images keep what one and two foretell."""
    config = Config.fromfile(ROOT / f'configs/{name}.py')
    parts, model = count_parts(config), build_model(config).train()
    images = torch.randn(3, 3, *model.backbone.img_size)
    assert parts.phases == (Phase(1., count_macs(model, images[:1])['total']), )

    def loss():
        with torch.autocast('cpu', torch.bfloat16):
            return model.parse_losses(model(images, mode='loss'))[0]

    assert parts.fixed_bytes + 3 * parts.image_bytes == saved_bytes(model, loss)
    assert parts.fixed_bytes > 0


def test_recomputing_pyramids_are_refused():
    config = Config.fromfile(ROOT / 'configs/um_mae/um_mae_quick.py')
    config.model.backbone.with_cp = True
    with pytest.raises(ValueError, match='UMSwin with with_cp=True is not predicted'):
        count_parts(config)


def test_config_with_a_strategy_is_sharded(tiny_cfg, tmp_path, monkeypatch, capsys):
    for name, changes in (('ddp', {}), ('fsdp', dict(strategy=dict(type='x')))):
        tiny_cfg(changes).dump(tmp_path / f'{name}.py')
    monkeypatch.setattr(sys, 'argv', [
        'predict_scale.py', *map(str, sorted(tmp_path.glob('*dp.py'))), '--gpus', '1',
        '2', '--json', str(tmp_path / 'out.json')])
    runpy.run_path(
        str(ROOT / 'tools/benchmarks/predict_scale.py'), run_name='__main__')
    ddp, fsdp = read_json(tmp_path / 'out.json')['configs']
    assert [run['strategy'] for run in (*ddp['runs'], *fsdp['runs'])] == [
        '', 'DDP', '', 'FSDP']
    assert '| fsdp | 2 | FSDP |' in capsys.readouterr().out
