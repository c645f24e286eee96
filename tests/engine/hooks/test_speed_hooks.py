# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Progressive resolution and compilation in whole runs."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper

from mmeffmae.engine.hooks import (
    CompileHook,
    DecorrelationHook,
    ProgressiveResolutionHook,
)
from mmeffmae.engine.hooks.progressive_resolution import reduce_images
from mmeffmae.registry import MODELS

ROOT = Path(__file__).parents[3]


class Watch(Hook):
    """Sizes of the images that the model is given, and the losses."""

    priority = 'LOWEST'

    def __init__(self):
        self.sizes, self.losses = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.sizes.append(data_batch['inputs'].shape[-1])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())


def train(runner):
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    return watch


def progressive(*phases):
    return dict(custom_hooks=[dict(
        type='mmeffmae.ProgressiveResolutionHook',
        phases=[dict(until=until, size=size) for until, size in phases])])


def test_images_grow(tiny_cfg, build_runner):
    """Twelve iterations; the first four of a plain run see other sizes."""
    runner = build_runner(tiny_cfg(progressive((.25, 16), (.5, 24))))
    watch = train(runner)
    assert watch.sizes == 3 * [16] + 3 * [24] + 6 * [32]
    assert all(torch.isfinite(torch.tensor(watch.losses)))


def test_reduced_images_look_like_the_large_ones():
    images = torch.arange(0, 256, 4, dtype=torch.uint8).repeat(2, 3, 64, 1)
    small = reduce_images(images, 32)
    assert small.shape == (2, 3, 32, 32) and small.dtype == torch.uint8
    means = images.float().unflatten(3, (32, 2)).mean(-1)[:, :, :32]
    assert (small[..., 1:-1] - means[..., 1:-1]).abs().max() <= 1
    with pytest.raises(ValueError, match='cannot be reduced to 65'):
        reduce_images(images, 65)
    with pytest.raises(ValueError, match=r'\(64, 48\) px .* load square images'):
        reduce_images(images[..., :48], 32)


@pytest.mark.parametrize('value', [-1000.5, .25, 4000.])
def test_bands_of_any_range_keep_their_values(value):
    small = reduce_images(torch.full((1, 4, 16, 16), value), 8)
    torch.testing.assert_close(small, torch.full((1, 4, 8, 8), value))


@pytest.mark.parametrize('phases', [[], [(.5, 16), (.5, 24)], [(0, 16)], [(1, 16)]])
def test_phases_out_of_order_are_refused(phases):
    with pytest.raises(ValueError, match='let each end later'):
        ProgressiveResolutionHook(progressive(*phases)['custom_hooks'][0]['phases'])


@pytest.mark.parametrize('size, reason', [
    (20, 'not divisible by patch_size 8'), (8, 'leaves no visible patch of 1')])
def test_sizes_that_do_not_fit_are_refused_before_the_first_iteration(
        size, reason, tiny_cfg, build_runner):
    runner = build_runner(tiny_cfg(progressive((.5, size))))
    with pytest.raises(ValueError, match=f'phase of {size} px.*{reason}'):
        runner.train()
    assert runner.iter == 0


def test_compiled_run_is_the_eager_run(tiny_cfg, build_runner, tmp_path):
    """One graph, the same masks, the same weights under the same names."""
    eager = build_runner(tiny_cfg())
    losses = train(eager).losses
    compile_hook = dict(type='mmeffmae.CompileHook', backend='eager')
    runner = build_runner(tiny_cfg(dict(
        custom_hooks=[compile_hook], work_dir=str(tmp_path / 'compiled'))))
    compiled = []
    runner.register_hook(Calls(compiled))
    assert train(runner).losses == pytest.approx(losses, rel=1e-5)
    assert compiled == 12 * [True] and 'objective' not in vars(runner.model)
    for name, weight in eager.model.state_dict().items():
        torch.testing.assert_close(runner.model.state_dict()[name], weight)
    with pytest.raises(ValueError, match='Linear has no objective'):
        CompileHook().attach(torch.nn.Linear(1, 1))


@pytest.mark.parametrize('name', [
    'mae/mae_quick', 'emae/emae_quick', 'pcae/pcae_quick', 'clmae/clmae_quick',
    'dbp_mae/dbp_mae_quick', 'um_mae/um_mae_quick',
    'um_mae/simmim_swin-32x8-p8_1xb64-coslr-25e_imagenette64'])
def test_every_method_is_one_graph_with_the_same_gradients(name, shrink):
    cfg = shrink(Config.fromfile(ROOT / f'configs/{name}.py'))
    model = MODELS.build(cfg.model).train()
    model.init_weights()
    layers = []
    if 'dbp' in name:
        layers = DecorrelationHook(eta=.1).attach(
            model, OptimWrapper(torch.optim.SGD(model.parameters(), lr=.1))
        ).layers.values()
        for layer in layers:
            layer.decorrelation += .1 * torch.randn_like(layer.decorrelation)
    images = torch.randn(2, 3, 32, 32)
    torch.manual_seed(0)
    expected = gradients(model, images)
    CompileHook(backend='aot_eager').attach(model)
    for layer in layers:
        layer.rows.clear()
    torch.manual_seed(0)
    torch.testing.assert_close(gradients(model, images), expected)
    assert all(layer.rows for layer in layers)


def gradients(model, images):
    model.zero_grad()
    model.parse_losses(model(images, mode='loss'))[0].backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()
            if parameter.grad is not None}


class Calls(Hook):

    def __init__(self, found):
        self.found = found

    def before_train_iter(self, runner, *args, **kwargs):
        self.found.append('objective' in vars(runner.model))
