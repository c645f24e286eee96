# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import os
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmeffmae.checkpoint import (
    CheckpointError,
    UnsafeCheckpointError,
    load_checkpoint_safely,
    register_safe_loader,
)


class _Calls:
    """Pickles as a call of ``function(*args)``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class _Points(Dataset):
    METAINFO = dict(classes=('a', 'b'))
    metainfo = dict(classes=('a', 'b'), palette=np.array([[0, 1, 2]]))

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(x=torch.full((2, ), float(index)))


class _Line(BaseModel):

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x, mode='tensor'):
        return dict(loss=self.linear(x).mean())


@pytest.fixture
def safe_loader(monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes',
                        CheckpointLoader._schemes.copy())
    register_safe_loader()


def _runner(work_dir, epochs, resume):
    return Runner(
        _Line(),
        str(work_dir),
        train_dataloader=DataLoader(_Points(), 2),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(
            type='OptimWrapper',
            clip_grad=dict(max_norm=1.),
            optimizer=dict(type='AdamW', lr=1e-2, betas=(.9, .95))),
        param_scheduler=[
            dict(
                type='LinearLR',
                start_factor=.1,
                end=1,
                convert_to_iter_based=True),
            dict(type='MultiStepLR', milestones=[1]),
        ],
        custom_hooks=[dict(type='EMAHook')],
        resume=resume,
        experiment_name=f'{work_dir.name}_{epochs}')


def test_a_full_training_checkpoint_loads_and_resumes(tmp_path, safe_loader):
    _runner(tmp_path, 1, resume=False).train()
    checkpoint = load_checkpoint_safely(tmp_path / 'epoch_1.pth')
    losses = checkpoint['message_hub']['log_scalars']['train/loss']
    assert len(losses.data[0]) == 2
    assert losses.mean() == pytest.approx(losses.data[0].mean())
    assert {'optimizer', 'param_schedulers', 'ema_state_dict'} <= set(checkpoint)

    resumed = _runner(tmp_path, 2, resume=True)
    resumed.train()
    assert resumed.iter == 4


@pytest.mark.parametrize('call', [
    (os.system, 'touch {mark}'),
    (eval, 'open(r"{mark}", "w")'),
    (getattr, HistoryBuffer, '__init__'),
    (getattr, HistoryBuffer.mean, '__globals__'),
])
def test_a_file_cannot_run_code(tmp_path, safe_loader, call):
    mark = tmp_path / 'ran'
    function, *args = call
    args = [a.format(mark=mark) if isinstance(a, str) else a for a in args]
    path = tmp_path / 'malicious.pth'
    torch.save(dict(state_dict={}, meta=_Calls(function, *args)), path)
    # The loader that mmengine's resume and Pretrained use refuses it as well.
    for load in load_checkpoint_safely, CheckpointLoader.load_checkpoint:
        with pytest.raises(UnsafeCheckpointError) as caught:
            load(str(path))
        assert str(path) in str(caught.value)
        assert function.__name__ in str(caught.value)
        assert 'as plain tensors' in str(caught.value)
    assert not mark.exists()


def test_unreadable_files_are_told_apart(tmp_path):
    good = tmp_path / 'good.pth'
    torch.save(dict(state_dict=dict(weight=torch.ones(1000))), good)
    content = good.read_bytes()
    cases = {
        'half.pth': (content[:len(content) // 2], 'truncated or damaged'),
        'empty.pth': (b'', 'truncated or damaged'),
        'picture.pth': (b'\x89PNG\r\n\x1a\n' + bytes(64), 'not a readable'),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match=message) as caught:
            load_checkpoint_safely(tmp_path / name)
        assert name in str(caught.value)
    torch.save([1], tmp_path / 'list.pth')
    with pytest.raises(CheckpointError, match='holds a list'):
        load_checkpoint_safely(tmp_path / 'list.pth')
    with pytest.raises(FileNotFoundError, match='no checkpoint is named'):
        load_checkpoint_safely('')
    with pytest.raises(FileNotFoundError, match='the .pth files there are '
                       'empty.pth, good.pth'):
        load_checkpoint_safely(tmp_path / 'absent.pth')


def test_downloads_are_loaded_safely(tmp_path, monkeypatch, safe_loader):
    torch.save(dict(meta=_Calls(os.system, 'true')), tmp_path / 'evil.pth')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with HTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}/evil.pth'
        with pytest.raises(UnsafeCheckpointError, match='system'):
            CheckpointLoader.load_checkpoint(url)
        # Many publishers have files of one name.
        for publisher in 'ab':
            (tmp_path / publisher).mkdir()
            torch.save(dict(of=publisher), tmp_path / publisher / 'model.pth')
            assert CheckpointLoader.load_checkpoint(
                url.replace('evil', f'{publisher}/model'))['of'] == publisher
        # What another package has fetched is not fetched again.
        cached = tmp_path / 'hub/checkpoints/resnet50-0a1b2c3d.pth'
        torch.save(dict(of='cache'), cached)
        assert CheckpointLoader.load_checkpoint(
            url.replace('evil', 'gone/resnet50-0a1b2c3d'))['of'] == 'cache'
        server.shutdown()
