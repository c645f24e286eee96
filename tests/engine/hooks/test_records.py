# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import json
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub

import mmeffmae
from mmeffmae.config_hash import config_hash
from mmeffmae.engine.hooks import EnvironmentHook, ProgressHook
from mmeffmae.engine.hooks.progress import num_images


def test_images_per_second_of_all_ranks():
    hub = MessageHub('progress')
    runner = SimpleNamespace(message_hub=hub, world_size=2)
    hook = ProgressHook(window_size=2)
    for seconds in (9., 0.5, 1.5):
        hub.update_scalar('train/time', seconds)
        hook.after_train_iter(
            runner, 0, dict(inputs=torch.zeros(8, 3, 4, 4)))
    # Two ranks, eight images, one second on average over the window.
    assert hub.get_scalar('train/images_per_s').current() == 16


@pytest.mark.parametrize('batch', [
    dict(inputs=torch.zeros(3, 3, 4, 4)),
    dict(inputs=[torch.zeros(3, 4, 4)] * 3),
    dict(inputs=[torch.zeros(3, 3, 4, 4)] * 2, data_samples=[0, 0, 0]),
])
def test_images_are_counted_not_views(batch):
    assert num_images(batch) == 3


def test_environment_record(tmp_path):
    runner = SimpleNamespace(
        timestamp='now', seed=3, world_size=1, iter=7,
        cfg=Config(dict(x=1)),
        work_dir=str(tmp_path), log_dir=str(tmp_path / 'log'))
    EnvironmentHook().before_train(runner)
    record = json.loads((tmp_path / 'environment.json').read_text())
    assert record == json.loads((tmp_path / 'log/environment.json').read_text())
    assert (record['seed'], record['start_iter']) == (3, 7)
    assert record['packages']['torch'] == f'torch {version("torch")}'
    assert 'mmengine' in record['packages']['mmengine']
    assert record['mmeffmae'] == mmeffmae.__version__
    assert record['machine']['cores'] >= 1
    assert record['config_hash'] == config_hash(dict(x=1))
