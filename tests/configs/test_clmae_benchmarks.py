# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

FOLDER = Path(__file__).parents[2] / 'configs/clmae'
CONFIGS = sorted((FOLDER / 'benchmarks').glob('*.py'))
TINY = dict(embed_dims=48, num_layers=2, num_heads=2, feedforward_channels=64)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_takes_a_pretrained_encoder(path, tmp_path):
    cfg = Config.fromfile(path)
    linear = 'linear' in path.stem
    name = Path(cfg.model.backbone.init_cfg.checkpoint).parent.name
    source = Config.fromfile(FOLDER / f'{name}.py').model.backbone
    sizes = dict(arch=TINY, img_size=64)
    encoder = MODELS.build(dict(source, **sizes))
    torch.nn.init.normal_(encoder.shared_attn[0].qkv.weight)
    state = {f'backbone.{k}': v for k, v in encoder.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'epoch_300.pth')
    cfg.model.backbone.update(sizes)
    cfg.model.backbone.init_cfg.checkpoint = str(tmp_path / 'epoch_300.pth')
    cfg.model.head.in_channels = 48
    cfg.model.pop('train_cfg', None)
    if linear:
        cfg.model.backbone.frozen_stages = 2
        cfg.model.neck.input_features = 48
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
        model.init_weights()
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    tied = cfg.model.backbone.share_attn is not None
    core = model.backbone.shared_attn[0] if tied else model.backbone.layers[1].attn
    assert torch.equal(core.qkv.weight, encoder.shared_attn[0].qkv.weight)
    logits = model(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 1000)
    frozen = not any(p.requires_grad for p in model.backbone.parameters())
    assert frozen == linear
    if not linear:
        rates = [group['lr'] for group in wrapper.param_groups]
        assert min(rates) < .5 * max(rates)
