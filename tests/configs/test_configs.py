# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config

from mmeffmae.registry import MODELS

ROOT = Path(__file__).parents[2]
METHODS = ('recommended', 'mae', 'emae', 'um_mae', 'clmae', 'pcae', 'dbp_mae')
SIZES = {
    entry['Config']: entry['Metadata']['Parameters']
    for metafile in (ROOT / 'configs').glob('*/metafile.yml')
    for entry in yaml.safe_load(metafile.read_text())['Models']}
CONFIGS = sorted(p for m in METHODS for p in (ROOT / 'configs' / m).glob('*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_runs_one_shrunken_step(path, shrink, build_runner):
    runner = build_runner(shrink(Config.fromfile(path)))
    weight = next(runner.model.backbone.patch_embed.parameters())
    before = weight.clone()
    runner.train()
    assert runner.iter == 1
    assert not torch.equal(before, weight)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_full_size_parts_fit_each_other(path):
    cfg = Config.fromfile(path)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
        size = model.backbone.img_size
        images = torch.empty(2, 3, *size)
        plan = model.draw_plan(images)
        pred = model.predict(images, plan)
    size_in_index = SIZES[path.relative_to(ROOT).as_posix()]
    assert sum(p.numel() for p in model.parameters()) == size_in_index
    of_pixels = not hasattr(model, 'teacher')
    width = 3 * model.backbone.patch_size**2 if of_pixels else model.backbone.embed_dims
    assert pred.shape == (2 * plan.num_views, plan.ids_predict.size(-1), width)
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
     ('emae/emae_vit-large-p16_8xb64-accum8-amp-coslr-50e_in1k', 2.4e-3, 50, 10),
     ('um_mae/um-mae_swin-tiny_8xb128-accum4-amp-coslr-200e_in1k-256px', 2.4e-3, 200,
      10),
     ('um_mae/um-mae_swin-large_8xb64-accum8-amp-coslr-800e_in1k-256px', 2.4e-3, 800,
      40)])
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
