# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What ``--resume`` continues from, and on how many ranks."""
import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmeffmae.engine.hooks.micro_batches import MicroBatchHook, split_batch
from mmeffmae.engine.launch import ConfigError, set_resume
from mmeffmae.engine.resume import keep_effective_batch


def config(work_dir: Path, **kwargs) -> Config:
    return Config(dict(
        work_dir=str(work_dir), load_from='pretrained.pth', launcher='none',
        train_dataloader=dict(batch_size=2), optim_wrapper=dict(optimizer={}),
        **kwargs))


def write(folder: Path, name: str, iteration: int, **meta) -> Path:
    path = folder / name
    torch.save(dict(state_dict=dict(w=torch.ones(1000)), optimizer={},
                    meta=dict(iter=iteration, **meta)), path)
    (folder / 'last_checkpoint').write_text(str(path))
    return path


def damage(path: Path, how: str) -> None:
    if how == 'cut':
        os.truncate(path, path.stat().st_size // 2)
    elif how == 'empty':
        path.write_bytes(b'')
    elif how == 'bit':  # of a weight: torch itself would load it
        data = bytearray(path.read_bytes())
        data[data.find(torch.ones(8).numpy().tobytes())] ^= 1
        path.write_bytes(data)
    elif how == 'gone':
        path.unlink()


def test_takes_the_last_checkpoint_or_starts(tmp_path):
    cfg = config(tmp_path)
    assert set_resume(cfg, 'auto') == []
    assert (cfg.resume, cfg.load_from) == (False, 'pretrained.pth')
    assert set_resume(config(tmp_path), None) == []
    last = write(tmp_path, 'epoch_2.pth', 12)
    write(tmp_path, 'best_acc_epoch_9.pth', 99)
    (tmp_path / 'last_checkpoint').write_text(str(last))
    assert set_resume(cfg, 'auto') == []
    assert (cfg.resume, cfg.load_from) == (True, str(last))
    with pytest.raises(ConfigError, match='other.pth is not a file'):
        set_resume(cfg, 'other.pth')


@pytest.mark.parametrize('how', ['cut', 'empty', 'bit', 'gone'])
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(how, tmp_path):
    write(tmp_path, 'epoch_1.pth', 6)
    before = write(tmp_path, 'epoch_2.pth', 12)
    last = write(tmp_path, 'iter_15.pth', 15)
    damage(last, how)
    cfg = config(tmp_path)
    note, = set_resume(cfg, 'auto')
    assert (cfg.resume, cfg.load_from) == (True, str(before))
    assert 'iter_15.pth' in note
    assert f'Resumed from {before}, after iteration 12' in note
    for file in tmp_path.glob('epoch_*.pth'):
        damage(file, 'cut')
    with pytest.raises(ConfigError, match=r'no checkpoint that can be used.*'
                       r'epoch_[12].pth .*--resume FILE'):
        set_resume(config(tmp_path), 'auto')


def test_follows_a_work_directory_that_was_moved(tmp_path):
    (tmp_path / 'old').mkdir()
    write(tmp_path / 'old', 'epoch_2.pth', 12)
    shutil.move(tmp_path / 'old', tmp_path / 'new')
    cfg = config(tmp_path / 'new')
    assert set_resume(cfg, 'auto') == []
    assert cfg.load_from == str(tmp_path / 'new/epoch_2.pth')


@pytest.mark.parametrize('ranks, configured, share, parts', [
    (2, 2, None, None), (1, 2, 4, 2), (4, 2, 1, 1), (1, 4, None, None)])
def test_other_ranks_keep_the_effective_batch(ranks, configured, share, parts):
    """Of a run of two images on each of two ranks."""
    cfg = config('run')
    cfg.train_dataloader.batch_size = configured
    note = keep_effective_batch(cfg, dict(world_size=2, batch_size=2), ranks)
    if share is None:
        assert note is None and 'custom_hooks' not in cfg
        return
    assert cfg.train_dataloader.batch_size == share
    hook, = cfg.custom_hooks
    assert (hook.parts, hook.configured_batch_size) == (parts, 2)
    assert 'the effective batch, the schedule' in note
    # And back again, from the checkpoint of that run.
    again = config('run')
    meta = dict(world_size=ranks, batch_size=share, configured_batch_size=2)
    assert keep_effective_batch(again, meta, 2) is None
    assert again.train_dataloader.batch_size == 2


@pytest.mark.parametrize('ranks, configured', [(3, 2), (4, 8)])
def test_a_batch_that_cannot_be_kept_is_said(ranks, configured):
    cfg = config('run')
    cfg.train_dataloader.batch_size = configured
    note = keep_effective_batch(cfg, dict(world_size=2, batch_size=2), ranks)
    assert f'the effective batch is {ranks * configured} instead of 4' in note
    assert cfg.train_dataloader.batch_size == configured


def test_parts_of_a_batch():
    images = torch.arange(5)
    data = dict(inputs=images, data_samples=list('abcde'), none=None)
    first, second = split_batch(data, 2)
    assert first['inputs'].tolist() + second['inputs'].tolist() == [0, 1, 2, 3, 4]
    assert first['data_samples'] + second['data_samples'] == list('abcde')
    assert len(split_batch(dict(inputs=images[:1]), 3)) == 3
    with pytest.raises(ValueError, match='parts=0'):
        MicroBatchHook(0, 2)


def test_parts_give_the_gradients_of_the_whole(tiny_cfg, build_runner):
    """One update from two parts equals two accumulated iterations of half."""
    states = []
    for changes in (
            dict(train_dataloader=dict(batch_size=6), custom_hooks=[dict(
                type='mmeffmae.MicroBatchHook', parts=2, configured_batch_size=3)]),
            dict(train_dataloader=dict(batch_size=3),
                 optim_wrapper=dict(accumulative_counts=2))):
        runner = build_runner(tiny_cfg(dict(
            train_cfg=dict(max_epochs=1), param_scheduler=[], **changes)))
        # One plan for all, so that masks do not depend on the order of draws.
        draw = runner.model.draw_plan

        def fixed(images, draw=draw):
            torch.manual_seed(0)
            return draw(images[:1].expand_as(images))

        runner.model.draw_plan = fixed
        runner.train()
        states.append(runner.model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], msg=name)
