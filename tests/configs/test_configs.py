# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmeffmae.registry import MODELS

ROOT = Path(__file__).parents[2]
METHODS = ('mae', 'emae')
CONFIGS = sorted(p for m in METHODS for p in (ROOT / 'configs' / m).glob('*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_runs_one_shrunken_step(path, shrink, build_runner):
    runner = build_runner(shrink(Config.fromfile(path)))
    before = runner.model.backbone.patch_embed.projection.weight.clone()
    runner.train()
    assert runner.iter == 1
    assert not torch.equal(before, runner.model.backbone.patch_embed.projection.weight)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_full_size_parts_fit_each_other(path):
    cfg = Config.fromfile(path)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
        size = model.backbone.img_size
        images = torch.empty(2, 3, *size)
        plan = model.draw_plan(images)
        pred = model.predict(images, plan)
    assert pred.shape == (2 * plan.num_views, plan.ids_predict.size(-1),
                          3 * model.backbone.patch_size**2)
    crops = [t for t in cfg.train_pipeline if 'RandomResizedCrop' in t['type']]
    assert [t['scale'] for t in crops] == [size[0]]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_is_short_and_carries_its_licence(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 40
    assert text.startswith('# Copyright (c) mmeffmae developers.')


@pytest.mark.parametrize(
    'name, lr, epochs, warmup',
    [('mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k', 2.4e-3, 300, 40),
     ('emae/emae_vit-large-p16_8xb64-accum8-amp-coslr-50e_in1k', 2.4e-3, 50, 10)])
def test_follows_the_published_schedule(name, lr, epochs, warmup):
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    batch = (cfg.train_dataloader.batch_size * 8
             * cfg.optim_wrapper.get('accumulative_counts', 1))
    assert batch == cfg.auto_scale_lr.base_batch_size == 4096
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.betas) == (pytest.approx(lr), (.9, .95))
    assert optimizer.weight_decay == .05
    assert cfg.train_cfg.max_epochs == epochs
    assert [s.get('end') for s in cfg.param_scheduler] == [warmup, epochs]


def test_decay_spares_norms_biases_tokens_and_positions():
    from mmengine.optim import build_optim_wrapper
    cfg = Config.fromfile(ROOT / 'configs/mae/mae_quick.py')
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(p): n for n, p in model.named_parameters()}
    decayed = {names[id(p)] for g in wrapper.param_groups if g['weight_decay']
               for p in g['params'] if p.requires_grad}
    expected = {n for n, p in model.named_parameters() if p.requires_grad
                and p.ndim > 1 and not n.endswith(('token', 'pos_embed'))}
    assert decayed == expected
