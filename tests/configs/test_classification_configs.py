# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Fine-tuning and linear probing with the encoder, where tokens may be dropped."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample

from mmeffmae.registry import MODELS

FOLDER = Path(__file__).parents[2] / 'configs/pcae/benchmarks'
CONFIGS = sorted(FOLDER.glob('*.py'))
RATIOS = {f'pcae-finetune-drop{n}0_vit-base-p16_8xb128-coslr-100e_in1k': n / 10
          for n in (1, 2, 3, 4)}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_classifies(path):
    cfg = Config.fromfile(path)
    assert len(path.read_text().splitlines()) <= 40
    assert cfg.model.backbone.drop_ratio == RATIOS.get(path.stem, 0) \
        if 'linear' not in path.stem else 'drop_ratio' not in cfg.model.backbone
    assert cfg.model.backbone.pop('init_cfg').prefix == 'backbone.'
    depth = 12 if 'base' in path.stem else 6
    cfg.model.backbone.update(
        arch=dict(embed_dims=32, num_layers=depth, num_heads=2,
                  feedforward_channels=64), img_size=32, patch_size=8)
    cfg.model.head.in_channels = 32
    if cfg.model.get('neck'):
        cfg.model.neck.input_features = 32
    init_default_scope('mmpretrain')
    model = MODELS.build(dict(cfg.model, data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor',
        num_classes=cfg.model.head.num_classes,
        batch_augments=cfg.model.get('train_cfg')))).train()
    samples = [DataSample().set_gt_label(i) for i in (0, 1)]
    batch = model.data_preprocessor(
        dict(inputs=torch.rand(2, 3, 32, 32), data_samples=samples), True)
    model(**batch, mode='loss')['loss'].backward()
    learns = 'linear' not in path.stem
    assert (model.backbone.layers[0].ffn.layers[1].weight.grad is not None) == learns
    assert model.head.get_submodule(
        'fc' if learns else 'layers').get_parameter(
            'weight' if learns else 'head.weight').grad.any()
