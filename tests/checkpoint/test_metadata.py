# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

from mmeffmae.checkpoint import CheckpointError, preprocessing_differences
from mmeffmae.checkpoint.metadata import (
    checkpoint_grid,
    checkpoint_preprocessing,
    parse_config_text,
    preprocessing_of_module,
)

CONFIGS = Path(__file__).parents[2] / 'configs'


def test_config_text_is_read_as_mmengine_reads_it():
    content = dict(
        lr=1e-4,
        none=None,
        model=dict(
            type='A',
            sizes=[(1, 2), [3.5, -1]],
            keys={'a.b': dict(x=True)},
            items=[dict(p='q\'s'), dict()]),
        limit=float('inf'))
    text = Config(content).pretty_text
    assert parse_config_text(text) == content


def test_config_text_is_not_executed(tmp_path):
    mark = tmp_path / 'ran'
    text = f'a = open({str(mark)!r}, "w")\nimport os\nb = [__import__("os")]'
    assert parse_config_text(text) == dict(
        a=f'open({str(mark)!r}, \'w\')', b=["__import__('os')"])
    assert not mark.exists()
    with pytest.raises(CheckpointError, match='--config'):
        parse_config_text('a = (')


@pytest.mark.parametrize('settings', [
    dict(type='mmpretrain.SelfSupDataPreprocessor', to_rgb=True),
    dict(type='mmpretrain.ClsDataPreprocessor', to_rgb=True),
    dict(type='mmdet.DetDataPreprocessor', bgr_to_rgb=True),
    dict(type='mmseg.SegDataPreProcessor', bgr_to_rgb=True, size=(8, 8)),
])
def test_preprocessors_of_the_stack_are_read(settings):
    scope = settings['type'].split('.')[0]
    __import__(f'{scope}.models')
    module = MODELS.build(dict(settings, mean=[1, 2, 3], std=[4, 5, 6]))
    assert preprocessing_of_module(module) == dict(
        mean=[1., 2., 3.], std=[4., 5., 6.], channel_order='rgb')


def test_differences_show_both_sides():
    text = Config(
        dict(
            model=dict(backbone=dict(img_size=(32, 64), patch_size=8)),
            data_preprocessor=dict(
                mean=[0, 0, 0], std=[1, 1, 1], to_rgb=False))).pretty_text
    checkpoint = dict(meta=dict(cfg=text))
    assert checkpoint_grid(checkpoint) == (4, 8)
    without_table = dict(meta=dict(cfg=text, grid=None))  # an export of UMSwin
    assert checkpoint_grid(without_table) is None
    theirs = checkpoint_preprocessing(checkpoint)
    ours = dict(theirs, mean=[0., 0., 9.], channel_order='rgb')
    assert preprocessing_differences(theirs, ours) == [
        'mean: checkpoint [0.0, 0.0, 0.0], model [0.0, 0.0, 9.0]',
        'channel_order: checkpoint bgr, model rgb',
    ]


@pytest.mark.parametrize('name', ['mae/mae_quick.py', 'emae/emae_quick.py'])
def test_shipped_configs_are_read_from_their_text(name):
    config = Config.fromfile(CONFIGS / name)
    assert parse_config_text(config.pretty_text) == config.to_dict()
