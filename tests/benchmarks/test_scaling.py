# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Predictions by hand."""
from pathlib import Path

import pytest
import torch

from mmeffmae.benchmarks.scaling import Machine, Parts, count_parts, predict
from mmeffmae.benchmarks.shards import read_json
from mmeffmae.benchmarks.speed_tables import scaling_table
from mmeffmae.evaluation.building import build_model
from mmeffmae.evaluation.cost import count_macs, saved_bytes

ROOT = Path(__file__).parents[2]
PARTS = Parts(
    macs=1e9, recomputed_macs=0, weights=10**8, largest_layer=10**7, image_bytes=1e6)
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


def test_sharded_and_recomputed():
    parts = Parts(1e9, 5e8, 10**8, 10**7, 1e6)
    run = predict(parts, MACHINE, 8, 8000, 500, sharded=True)
    assert run['state_bytes'] == 16e8 / 8 + 8e7 and run['accumulation'] == 2
    # Another sixth of the work, an eighth of the optimizer's.
    assert run['step_seconds'] == pytest.approx(1 + 1 / 6 + 1e-3 / 8)
    with pytest.raises(ValueError, match='7 GPUs do not divide'):
        predict(parts, MACHINE, 7, 1000, 10)


def test_parts_of_a_config(tiny_cfg, tmp_path):
    plain, recomputed, both = (
        count_parts(tiny_cfg(dict(model={part: dict(with_cp=True) for part in parts})))
        for parts in ((), ('backbone', ), ('backbone', 'neck')))
    model = build_model(tiny_cfg()).train()
    macs = count_macs(model, torch.randn(1, 3, 32, 32))
    assert plain.macs == recomputed.macs == macs['total']
    assert (plain.recomputed_macs, recomputed.recomputed_macs) == (0, macs['encoder'])
    assert plain.weights == sum(
        p.numel() for p in model.parameters() if p.requires_grad)
    assert plain.largest_layer == sum(
        p.numel() for p in model.backbone.layers[0].parameters())
    assert both.recomputed_macs == macs['encoder'] + macs['decoder']
    # Recomputing keeps less.
    assert 0 < both.image_bytes < recomputed.image_bytes < plain.image_bytes


def test_kept_bytes_of_a_deep_encoder_follow_from_shallow_ones(tiny_cfg):
    cfg = tiny_cfg()
    cfg.model.backbone.arch.num_layers = 7
    model = build_model(cfg).train()

    def kept(batch):
        images = torch.randn(batch, 3, 32, 32)
        with torch.autocast('cpu', torch.bfloat16):
            return saved_bytes(
                model, lambda: model.parse_losses(model(images, mode='loss'))[0])

    assert count_parts(cfg).image_bytes == kept(3) - kept(2)
