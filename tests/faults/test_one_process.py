# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Disks, workers and kills: nothing is lost but steps since the last file."""
import errno
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.runner import find_latest_checkpoint

from mmeffmae.engine.launch import set_resume
from mmeffmae.engine.storage import AtomicLocalBackend

HERE = Path(__file__).parent


@pytest.fixture
def mount(tmp_path):
    """A function that mounts something below ``tmp_path``, if it may."""
    mounted = []

    def function(name: str, *options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        done = subprocess.run(['mount', *options, str(folder)], text=True,
                              capture_output=True)
        if done.returncode:
            pytest.skip(f'no permission to mount: {done.stderr.strip()}')
        mounted.append(folder)
        return folder

    yield function
    for folder in mounted:
        subprocess.run(['umount', '--lazy', str(folder)], check=True)


def finish_and_compare(cfg, build_runner, difference, tmp_path) -> float:
    """Resume to the end; difference from a run that nothing broke."""
    set_resume(cfg, 'auto')
    build_runner(cfg).train()
    last = f'epoch_{cfg.train_cfg.max_epochs}.pth'
    broken, cfg.work_dir = cfg.work_dir, str(tmp_path / 'unbroken')
    cfg.resume, cfg.load_from = False, None
    build_runner(cfg).train()
    return difference(Path(broken, last), tmp_path / 'unbroken' / last)


@pytest.mark.parametrize('disk', ['tmpfs', 'patched'])
def test_a_full_disk_leaves_the_last_checkpoint(
        disk, tiny_cfg, build_runner, difference, mount, monkeypatch, tmp_path):
    cfg = tiny_cfg()
    if disk == 'tmpfs':
        folder = mount('small', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs')
        cfg.work_dir = str(folder / 'run')
        cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    sizes, write = [], AtomicLocalBackend.put

    def put(self, obj, filepath):
        sizes.append(len(obj))
        if disk == 'tmpfs' and 'epoch_2' in str(filepath):
            (folder / 'filler').write_bytes(
                bytes(os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize))
        if disk == 'patched' and 'epoch_2' in str(filepath):
            def full(descriptor):
                raise OSError(errno.ENOSPC, 'No space left on device')
            with monkeypatch.context() as patch:
                patch.setattr(os, 'fsync', full)
                return write(self, obj, filepath)
        return write(self, obj, filepath)

    with monkeypatch.context() as patch:
        patch.setattr(AtomicLocalBackend, 'put', put)
        with pytest.raises(OSError, match=r'No space left on device: .*epoch_2.pth '
                           r'\([\d,]+ bytes, [\d,]+ free\).*--resume'):
            build_runner(cfg).train()
    names = sorted(f.name for f in Path(cfg.work_dir).glob('*epoch*'))
    assert names == ['epoch_1.pth']
    assert find_latest_checkpoint(cfg.work_dir).endswith('epoch_1.pth')
    if disk == 'tmpfs':
        (folder / 'filler').unlink()
    assert finish_and_compare(cfg, build_runner, difference, tmp_path) == 0.0


def test_read_only_data_and_a_read_only_work_directory(
        tiny_cfg, build_runner, image_folder, mount, tmp_path):
    cfg = tiny_cfg(dict(train_cfg=dict(max_epochs=1)))
    folder = mount('images', '--bind', '-o', 'ro', str(image_folder))
    subprocess.run(['mount', '-o', 'remount,bind,ro', str(folder)], check=True)
    with pytest.raises(OSError, match='Read-only'):
        (folder / 'x').touch()
    cfg.train_dataloader.dataset.data_root = str(folder)
    build_runner(cfg).train()
    with pytest.raises(OSError, match=r'Read-only file system: .*--work-dir'):
        AtomicLocalBackend().put(b'x', folder / 'run/epoch_1.pth')


def test_a_worker_that_dies_stops_the_run(
        tiny_cfg, build_runner, difference, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(HERE))
    importlib.import_module('fault_hooks')
    cfg = tiny_cfg(dict(
        train_dataloader=dict(num_workers=2, persistent_workers=True)))
    cfg.train_dataloader.dataset.pipeline.insert(1, dict(
        type='StrikeWorker', mark=str(tmp_path / 'mark'),
        when=f'{cfg.work_dir}/epoch_1.pth'))
    with pytest.raises(RuntimeError, match=r'DataLoader worker \(pid'):
        build_runner(cfg).train()
    assert find_latest_checkpoint(cfg.work_dir).endswith('epoch_1.pth')
    assert finish_and_compare(cfg, build_runner, difference, tmp_path) == 0.0


@pytest.mark.long
def test_twenty_kills_lose_only_the_steps_since_the_last_checkpoint(
        write_config, difference, tmp_path):
    """SIGKILL to the whole group, workers included, at random moments."""
    changes = dict(
        train_cfg=dict(max_epochs=100),
        train_dataloader=dict(num_workers=1, persistent_workers=True),
        default_hooks=dict(checkpoint=dict(interval=2, by_epoch=False)))
    broken = write_config('broken', changes, (dict(type='SlowIterations'),))
    unbroken = write_config('unbroken', changes)
    done = subprocess.run(
        [sys.executable, str(HERE / 'kill_runs.py'), str(broken), str(unbroken), '20'],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=dict(os.environ, OMP_NUM_THREADS='1',
                 PYTHONPATH=f'{HERE.parents[1]}{os.pathsep}{HERE}'))
    assert done.returncode == 0, done.stdout[-5000:]
    reached = [int(line.split()[-1]) for line in done.stdout.splitlines()
               if line.startswith('killed, last checkpoint')]
    assert len(reached) == 20 and reached == sorted(reached) and reached[-1] > 0
    log = (tmp_path / 'broken.log').read_text()
    assert f'iter: {reached[-1]}' in log
    assert not list((tmp_path / 'broken').glob('.*.tmp'))
    change = difference(*(tmp_path / name / 'iter_600.pth'
                          for name in ('broken', 'unbroken')))
    print(f'20 kills, after iterations {reached}; difference {change}')
    assert change == 0.0


@pytest.mark.long
def test_a_damaged_last_checkpoint_from_the_command_line(
        write_config, train, difference, tmp_path):
    config = write_config('run')
    assert train(config, 1).code == 0
    last = tmp_path / 'run/epoch_2.pth'
    whole = last.read_bytes()
    last.write_bytes(whole[:-1000])
    resumed = train(config, 1, '--resume')
    assert resumed.code == 0, resumed.log
    assert 'epoch_2.pth' in resumed.log and 'truncated or damaged' in resumed.log
    assert 'after iteration 6, instead' in resumed.log
    (tmp_path / 'whole.pth').write_bytes(whole)
    assert difference(last, tmp_path / 'whole.pth') == 0.0
    refused = train(config, 1, '--resume', str(tmp_path / 'absent.pth'))
    assert refused.code == 1
    assert 'error: --resume: checkpoint' in refused.log, refused.log
    assert sys.executable not in refused.log  # no traceback
