# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Fixtures that several test folders share: tiny images, models and runs."""
import copy
import signal
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from PIL import Image
from yapf.yapflib import yapf_api

from mmeffmae.checkpoint import register_safe_loader

ROOT = Path(__file__).parents[1]
SIZE, PATCH = 32, 8

#: What replaces the size of a part, by its type.
TINY_PARTS = {
    'mmeffmae.MaskedViT': dict(
        arch=dict(embed_dims=32, num_layers=2, num_heads=2,
                  feedforward_channels=64),
        img_size=SIZE, patch_size=PATCH),
    'mmeffmae.MaskedDecoder': dict(
        decoder_embed_dim=32, decoder_depth=1, decoder_num_heads=2),
    'mmeffmae.UMSwin': dict(
        arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2],
                  position_dims=4),
        img_size=SIZE, patch_size=PATCH),
    'mmeffmae.UMPVT': dict(
        arch=dict(embed_dims=[8, 8, 16, 32], depths=[1, 1, 1, 1],
                  num_heads=[1, 1, 2, 2], mlp_ratios=[2, 2, 2, 2],
                  sr_ratios=[8, 4, 2, 1]),
        img_size=SIZE, patch_size=PATCH),
    'mmeffmae.PixelShuffleDecoder': dict(
        decoder_embed_dim=32, decoder_depth=1, decoder_num_heads=2),
    'mmeffmae.SimMIMDecoder': {},
}
_run_numbers = count()


def pytest_configure(config):
    # Several threads on busy cores are slower, and change rounding.
    torch.set_num_threads(1)
    _format_configs_once()


def _format_configs_once():
    """A Runner formats its config seven times, for longer than it trains."""
    formatted = {}
    format_code = yapf_api.FormatCode

    def cached(text, *args, **kwargs):
        if text not in formatted:
            formatted[text] = format_code(text, *args, **kwargs)
        return formatted[text]

    yapf_api.FormatCode = cached


@pytest.fixture(scope='session')
def image_folder(tmp_path_factory) -> Path:
    """Two classes of six 40x40 images of smooth noise."""
    root = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for i in range(12):
        folder = root / ('even', 'odd')[i % 2]
        folder.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype='u1'))
        coarse.resize((40, 40), Image.BICUBIC).save(folder / f'{i:02}.png')
    return root


def _resize_pipeline(pipeline: list) -> None:
    for transform in pipeline:
        for key in ('scale', 'crop_size'):
            if key in transform:
                transform[key] = SIZE


@pytest.fixture
def shrink(image_folder, tmp_path):
    """A function that makes a pre-training config tiny.

    ``shrink(cfg)`` changes it in place and returns it: 32 px images in 8 px
    patches, narrow parts of the same types, two images and one iteration,
    on the ``image_folder``, in ``tmp_path``.
    """

    def labelled(dataset: dict) -> dict:
        pipeline = dataset['pipeline']
        _resize_pipeline(pipeline)
        pipeline.insert(
            len(pipeline) - 1, dict(type='mmpretrain.Resize', scale=SIZE))
        return dict(type='mmeffmae.LabelledImages', test_mode=True,
                    data_root=str(image_folder), pipeline=pipeline)

    def function(cfg: Config) -> Config:
        for name in ('backbone', 'neck'):
            part = cfg.model[name]
            part.update(TINY_PARTS[part.type])
        if 'teacher' in cfg.model:
            cfg.model.teacher.drop_indices = (0,)
        loader = cfg.train_dataloader
        pipeline = loader.dataset.pipeline
        _resize_pipeline(pipeline)
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset = ConfigDict(
            type='mmeffmae.UnlabelledImages', data_root=str(image_folder),
            pipeline=pipeline, indices=2)
        cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
        for hook in cfg.get('custom_hooks', []):
            if hook['type'] == 'mmeffmae.KNNMonitorHook':
                for name in ('bank', 'query'):  # update() would merge them
                    hook[name] = labelled(hook[name])
                hook['interval'], hook['k'] = 1, 3
            if hook['type'] == 'mmeffmae.ProgressiveResolutionHook':
                hook['phases'] = [dict(until=0.5, size=SIZE // 2)]
        cfg.work_dir = str(tmp_path / 'shrunk')
        return cfg

    return function


@pytest.fixture
def tiny_cfg(image_folder, tmp_path):
    """A function that returns a config of a whole tiny pre-training run.

    Six iterations an epoch, two epochs; ``changes`` are merged.
    """

    def function(changes: dict | None = None) -> Config:
        cfg = Config.fromfile(ROOT / 'configs/_base_/default_runtime.py')
        cfg.merge_from_dict(dict(
            model=dict(
                type='mmeffmae.MaskedAutoencoder',
                backbone=dict(type='mmeffmae.MaskedViT',
                              **TINY_PARTS['mmeffmae.MaskedViT']),
                neck=dict(type='mmeffmae.MaskedDecoder',
                          **TINY_PARTS['mmeffmae.MaskedDecoder']),
                head=dict(type='mmeffmae.PixelHead', norm_pix=True),
                masking=dict(
                    type='mmeffmae.RandomMasking', mask_ratio=0.75)),
            data_preprocessor=dict(
                type='mmpretrain.SelfSupDataPreprocessor',
                mean=[124., 116., 104.], std=[58., 57., 57.], to_rgb=True),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='mmeffmae.KeyedSampler', shuffle=True),
                collate_fn=dict(type='default_collate'),
                dataset=dict(
                    type='mmeffmae.UnlabelledImages',
                    data_root=str(image_folder),
                    pipeline=[
                        dict(type='mmeffmae.SeedSample'),
                        dict(type='mmeffmae.LoadImage'),
                        dict(type='mmpretrain.RandomResizedCrop', scale=SIZE),
                        dict(type='mmpretrain.RandomFlip', prob=0.5),
                        dict(type='mmpretrain.PackInputs'),
                    ])),
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(type='AdamW', lr=1e-2, betas=(0.9, 0.95))),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=1,
                     convert_to_iter_based=True),
                dict(type='ExponentialLR', gamma=0.5, by_epoch=True)],
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=2),
            work_dir=str(tmp_path / 'run')))
        cfg.merge_from_dict(copy.deepcopy(changes or {}))
        return cfg

    return function


@pytest.fixture
def build_runner():
    """A function that builds a Runner with a log and a hub of its own."""
    register_safe_loader()  # as the tools do
    handlers = {n: signal.getsignal(n)
                for n in (signal.SIGTERM, signal.SIGUSR1)}
    runners = []

    def function(cfg: Config) -> Runner:
        # Runs that start within a second would share them by name.
        cfg.experiment_name = f'test{next(_run_numbers)}'
        cfg.log_level = 'WARNING'
        runners.append(Runner.from_cfg(cfg))
        return runners[-1]

    yield function
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for runner in runners:
        _stop_workers(runner)


def _stop_workers(runner: Runner) -> None:
    """Left to the garbage collector, this takes seconds a worker."""
    loop = runner._train_loop
    loader = getattr(loop, 'dataloader', None)
    stream = getattr(loop, 'dataloader_iterator', None)
    for iterator in (getattr(loader, '_iterator', None),
                     getattr(stream, '_iterator', None)):
        if hasattr(iterator, '_shutdown_workers'):
            iterator._shutdown_workers()
