# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Arguments of the tools, merged into configs."""
import argparse
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmeffmae.engine import launch
from mmeffmae.engine.launch import (
    ConfigError,
    init_processes,
    leave_amp_to_gpus,
    load_config,
    use_amp,
    world_size,
)
from mmeffmae.engine.lr_scaling import scale_lr
from mmeffmae.engine.training import training_runner


def arguments(config: Path, **kwargs) -> argparse.Namespace:
    return argparse.Namespace(**{
        **dict(config=str(config), work_dir=None, cfg_options=None,
               launcher='none', local_rank=0), **kwargs})


def training_cfg(**kwargs) -> Config:
    return Config({**dict(
        default_scope='mmpretrain', model=dict(type='A'), train_cfg=dict(),
        train_dataloader=dict(batch_size=64, dataset=dict(type='D')),
        optim_wrapper=dict(
            type='OptimWrapper', accumulative_counts=8,
            optimizer=dict(type='AdamW', lr=2.4e-3)),
        auto_scale_lr=dict(base_batch_size=4096)), **kwargs})


def test_learning_rate_follows_the_effective_batch():
    cfg = training_cfg()
    scaling = scale_lr(cfg, world_size=4)
    assert scaling.effective_batch == 64 * 4 * 8 == 2048
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1.2e-3)
    assert str(scaling) == (
        'learning rate 0.0024 for 4096 images an update becomes 0.0012 for '
        '2048 (64 images a rank x 4 ranks x 8 accumulated)')
    # mmengine's scaling is off, and the dumped config is not scaled again.
    assert cfg.auto_scale_lr.enable is False
    scale_lr(cfg, world_size=4)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1.2e-3)


def test_schedules_in_iterations_say_what_a_smaller_batch_leaves_out():
    cfg = training_cfg()
    assert scale_lr(cfg, 4).iterations_note(dict(max_epochs=300)) is None
    loop = dict(type='IterBasedTrainLoop', max_iters=1000)
    assert 'sees 1/2 of the images' in scale_lr(training_cfg(), 4).iterations_note(loop)
    assert scale_lr(training_cfg(), 8).iterations_note(loop) is None


def test_learning_rate_is_left_alone_or_refused():
    assert scale_lr(training_cfg(auto_scale_lr=None), 4) is None
    several = training_cfg(optim_wrapper=dict(
        generator=dict(optimizer=dict(type='SGD', lr=1.)),
        constructor='Several'))
    with pytest.raises(ValueError, match='--no-scale-lr'):
        scale_lr(several, 4)


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg'])
def test_amp_is_bfloat16(scope):
    cfg = training_cfg(default_scope=scope)
    cfg.optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')
    use_amp(cfg)
    wrapper = dict(cfg.optim_wrapper)
    wrapper.pop('optimizer')
    assert wrapper == dict(type='mmeffmae.BFloat16OptimWrapper',
                           enabled=True, accumulative_counts=8)


def test_amp_of_mmdet_is_float16_on_gpus_only(monkeypatch):
    cfg = training_cfg(default_scope='mmdet')
    for device in ('cpu', 'cuda'):
        monkeypatch.setattr('mmeffmae.engine.launch.get_device',
                            lambda device=device: device)
        if device == 'cpu':
            with pytest.raises(ConfigError, match='needs a GPU'):
                use_amp(cfg)
    use_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.dtype == 'float16'


def test_recipes_in_float16_can_be_tried_on_a_cpu(monkeypatch, tiny_cfg, build_runner):
    cfg = tiny_cfg(dict(train_cfg=dict(max_epochs=1), launcher='none'))
    cfg.optim_wrapper.update(
        type='AmpOptimWrapper', dtype='float16', loss_scale='dynamic')
    with monkeypatch.context() as patch:
        patch.setattr('mmeffmae.engine.launch.get_device', lambda: 'cuda')
        assert not leave_amp_to_gpus(cfg) and 'dtype' in cfg.optim_wrapper
    monkeypatch.setattr('mmeffmae.engine.launch.get_device', lambda: 'cpu')
    monkeypatch.setattr('mmeffmae.engine.training.build_runner', build_runner)
    runner = training_runner(cfg, scale=False)
    runner.train()
    assert runner.iter == 6


def test_amp_refuses_wrappers_it_does_not_know():
    cfg = training_cfg(optim_wrapper=dict(type='ApexOptimWrapper'))
    with pytest.raises(ConfigError, match='ApexOptimWrapper'):
        use_amp(cfg)


def test_amp_computes_in_bfloat16_on_cpu(tiny_cfg, build_runner):
    cfg = tiny_cfg(dict(train_cfg=dict(max_epochs=1)))
    use_amp(cfg)
    runner = build_runner(cfg)
    seen = set()
    for name in ('backbone.layers.0.attn.qkv', 'neck.decoder_pred'):
        runner.model.get_submodule(name).register_forward_hook(
            lambda module, args, output: seen.add(output.dtype))
    runner.train()
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in runner.model.parameters()} == {torch.float32}


def test_bad_configs_are_named(tmp_path):
    with pytest.raises(ConfigError, match='absent.py is not a file'):
        load_config(arguments(tmp_path / 'absent.py'), training=True)
    path = tmp_path / 'config.py'
    path.write_text('model = dict()\noptim_wrapper = dict()')
    with pytest.raises(ConfigError, match='no train_dataloader, train_cfg'):
        load_config(arguments(path), training=True)
    training_cfg(default_scope='mmnothing').dump(path)
    with pytest.raises(ConfigError, match="'mmnothing', but .* install"):
        load_config(arguments(path), training=True)


def test_options_and_work_dir_are_merged(tmp_path):
    path = tmp_path / 'config.py'
    training_cfg().dump(path)
    options = {'optim_wrapper.optimizer.lr': 1.}
    cfg = load_config(arguments(path, cfg_options=options), training=True)
    assert cfg.optim_wrapper.optimizer.lr == 1.
    assert cfg.work_dir == './work_dirs/config'
    cfg = load_config(arguments(path, work_dir='here'), training=True)
    assert cfg.work_dir == 'here'


def test_launchers_without_their_variables_are_refused(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'SLURM_PROCID', 'SLURM_NTASKS'):
        monkeypatch.delenv(name, raising=False)
    assert world_size('none') == 1
    with pytest.raises(ConfigError, match='RANK, WORLD_SIZE.*dist_train.sh'):
        world_size('pytorch')
    with pytest.raises(ConfigError, match='slurm_train.sh'):
        init_processes(Config(dict(launcher='slurm')))
    monkeypatch.setenv('SLURM_PROCID', '3')
    monkeypatch.setenv('SLURM_NTASKS', '16')
    monkeypatch.setenv('SLURM_LOCALID', '3')
    assert world_size('slurm') == 16


#: mmengine's own, which it leaves out as soon as there is a model_wrapper_cfg.
DEFAULTS = dict(broadcast_buffers=False, find_unused_parameters=True)


@pytest.mark.parametrize('theirs, expected', [
    (None, dict(DEFAULTS, type='MMDistributedDataParallel',
                gradient_as_bucket_view=True)),
    (dict(static_graph=True), dict(
        DEFAULTS, type='MMDistributedDataParallel', gradient_as_bucket_view=True,
        static_graph=True)),
    (dict(type='mmengine.MMDistributedDataParallel', gradient_as_bucket_view=False),
     dict(DEFAULTS, type='mmengine.MMDistributedDataParallel',
          gradient_as_bucket_view=False)),
    (dict(type='Mine'), dict(type='Mine'))])
def test_gradients_are_kept_once_on_gpus(theirs, expected, monkeypatch):
    monkeypatch.setattr('mmeffmae.engine.launch.get_device', lambda: 'cuda')
    cfg = Config(dict(launcher='pytorch', find_unused_parameters=True,
                      model_wrapper_cfg=theirs))
    init_processes(cfg)
    assert cfg.model_wrapper_cfg == expected
    cfg = Config(dict(launcher='pytorch', strategy=dict(type='FSDPStrategy')))
    init_processes(cfg)
    assert 'model_wrapper_cfg' not in cfg


def test_mpi_on_gpus_knows_its_rank(monkeypatch):
    """``wrap_model`` takes the device from it."""
    monkeypatch.setattr('mmeffmae.engine.launch.get_device', lambda: 'cuda')
    for name, value in (('RANK', '5'), ('SIZE', '8'), ('LOCAL_RANK', '3')):
        monkeypatch.setenv(f'OMPI_COMM_WORLD_{name}', value)
    monkeypatch.setenv('LOCAL_RANK', '0')  # as tools/train.py leaves it
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    init_processes(Config(dict(launcher='mpi')))
    names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR')
    assert [os.environ[name] for name in names] == ['5', '8', '3', '127.0.0.1']
    monkeypatch.delenv('MASTER_ADDR')
    monkeypatch.setenv('OMPI_COMM_WORLD_LOCAL_SIZE', '4')
    with pytest.raises(ConfigError, match='MASTER_ADDR is not set'):
        init_processes(Config(dict(launcher='mpi')))


@pytest.mark.parametrize('cuda, refused', [('not available', True), ('13.0', False)])
def test_a_detector_on_a_gpu_needs_operators_for_it(
        cuda, refused, tmp_path, monkeypatch):
    ops = pytest.importorskip('mmcv.ops')
    path = tmp_path / 'config.py'
    training_cfg(default_scope='mmdet').dump(path)
    monkeypatch.setattr('mmeffmae.engine.launch.get_device', lambda: 'cuda')
    monkeypatch.setattr(ops, 'get_compiling_cuda_version', lambda: cuda)
    if refused:
        with pytest.raises(ConfigError, match='without CUDA.*setup_env.sh'):
            load_config(arguments(path), training=True)
    else:
        load_config(arguments(path), training=True)


@pytest.mark.parametrize('device, workers, own, pinned', [
    ('cuda', 4, {}, True), ('cuda', 0, {}, None), ('cpu', 4, {}, None),
    ('cuda', 4, dict(pin_memory=False), False)])
def test_batches_are_pinned_for_a_gpu(device, workers, own, pinned, monkeypatch):
    cfg = training_cfg(runner_type='none is built')
    cfg.train_dataloader.update(num_workers=workers, **own)
    monkeypatch.setattr(launch, 'get_device', lambda: device)
    monkeypatch.setattr(launch.RUNNERS, 'build', lambda cfg: cfg)
    assert launch.build_runner(cfg).train_dataloader.get('pin_memory') is pinned
