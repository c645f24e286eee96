# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A checkpoint can be loaded whatever happens while one is written."""
import io
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import mmengine.fileio.backends.local_backend as stock_backend
import pytest
import torch
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub
from mmengine.runner import FlexibleRunner

import mmeffmae.engine.storage as atomic_backend
from mmeffmae.checkpoint import load_checkpoint_safely, register_safe_loader
from mmeffmae.engine.hooks import SafeCheckpointHook
from mmeffmae.engine.storage import AtomicLocalBackend


class FakeRunner:
    """What a checkpoint hook needs; writes weights that tell the step."""

    hooks = ()

    def __init__(self, work_dir: Path, accumulative_counts: int = 1) -> None:
        self.work_dir = str(work_dir)
        self.epoch = self.iter = 0
        self.message_hub = MessageHub(f'hub of {work_dir}')
        self.logger = SimpleNamespace(info=print)
        self.optim_wrapper = SimpleNamespace(
            should_update=lambda:
            (self.iter + 1) % accumulative_counts == 0)

    def save_checkpoint(self, out_dir, filename, *args, meta, backend_args,
                        **kwargs) -> None:
        from mmengine.runner import save_checkpoint
        weights = torch.full((50_000, ), float(self.iter))
        save_checkpoint(
            dict(meta=meta, state_dict=dict(weights=weights),
                 kept=self.message_hub.runtime_info.get('keep_ckpt_ids')),
            f'{out_dir}/{filename}', backend_args=backend_args)


def start(hook: CheckpointHook, runner: FakeRunner) -> CheckpointHook:
    hook.before_train(runner)
    return hook


def save_epoch(hook: CheckpointHook, runner: FakeRunner, epoch: int) -> None:
    runner.epoch, runner.iter = epoch, 6 * epoch + 5
    hook._save_checkpoint(runner)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob('*.pth'))


def killed_while_writing(module, hook_name: str, folder: Path) -> None:
    """Save two checkpoints in a child; SIGKILL halfway into the second."""

    def child() -> None:
        runner = FakeRunner(folder)
        hook_type = dict(stock=CheckpointHook, safe=SafeCheckpointHook)
        hook = start(hook_type[hook_name](interval=1, max_keep_ckpts=1),
                     runner)
        save_epoch(hook, runner, 0)

        class Dying(io.FileIO):

            def write(self, data):
                super().write(data[:len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)

        module.open = Dying
        save_epoch(hook, runner, 1)

    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


def test_sigkill_while_writing_leaves_the_last_checkpoint(tmp_path):
    killed_while_writing(atomic_backend, 'safe', tmp_path)
    last = (tmp_path / 'last_checkpoint').read_text()
    assert last == str(tmp_path / 'epoch_1.pth')
    assert torch.load(last)['meta'] == dict(epoch=1, iter=5)
    assert len(list(tmp_path.glob('.*.tmp'))) == 1

    # The next run removes the half and goes on.
    runner = FakeRunner(tmp_path)
    hook = start(SafeCheckpointHook(interval=1, max_keep_ckpts=1), runner)
    assert not list(tmp_path.glob('.*.tmp'))
    save_epoch(hook, runner, 1)
    assert torch.load(tmp_path / 'epoch_2.pth')['meta']['epoch'] == 2


def test_the_stock_hook_fails_that_test(tmp_path):
    """Proof that the kill comes at the wrong moment."""
    killed_while_writing(stock_backend, 'stock', tmp_path)
    assert names(tmp_path) == ['epoch_2.pth']
    with pytest.raises(RuntimeError):
        torch.load(tmp_path / 'epoch_2.pth')


def test_old_file_goes_after_the_new_one_is_named(tmp_path, monkeypatch):
    runner = FakeRunner(tmp_path)
    hook = start(SafeCheckpointHook(interval=1, max_keep_ckpts=2), runner)
    seen = []
    remove = AtomicLocalBackend.remove

    def watched(self, path):
        seen.append((Path(path).name, names(tmp_path),
                     Path((tmp_path / 'last_checkpoint').read_text()).name))
        remove(self, path)

    monkeypatch.setattr(AtomicLocalBackend, 'remove', watched)
    for epoch in range(4):
        save_epoch(hook, runner, epoch)
    assert seen == [
        ('epoch_1.pth', ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth'],
         'epoch_3.pth'),
        ('epoch_2.pth', ['epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth'],
         'epoch_4.pth')]
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_4.pth']

    # A run that was stopped before the removal removes it when resumed.
    (tmp_path / 'epoch_2.pth').touch()
    resumed = FakeRunner(tmp_path)
    kept = torch.load(tmp_path / 'epoch_4.pth')['kept']
    resumed.message_hub.update_info('keep_ckpt_ids', kept)
    start(SafeCheckpointHook(interval=1, max_keep_ckpts=2), resumed)
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_4.pth']


@pytest.mark.parametrize('save_best', ['acc', ['acc', 'auc']])
def test_best_file_is_replaced_only_by_a_better_one(save_best, tmp_path):
    runner = FakeRunner(tmp_path)
    hook = start(
        SafeCheckpointHook(interval=1, save_best=save_best, rule='greater'),
        runner)
    alive = []
    remove = hook._remove

    def watched(path, unless):
        if path is not None:
            alive.append((Path(path).name, Path(unless).is_file()))
        remove(path, unless)

    hook._remove = watched
    for epoch, acc in enumerate((0.5, 0.4, 0.7)):
        save_epoch(hook, runner, epoch)
        runner.epoch += 1
        hook._save_best_checkpoint(runner, dict(acc=acc, auc=1 - acc))
    best = {f'best_{k}_epoch_{n}.pth' for k, n in dict(acc=3, auc=2).items()
            if k in save_best}
    assert {n for n in names(tmp_path) if n.startswith('best')} == best
    assert ('best_acc_epoch_1.pth', True) in alive
    assert all(spared for _, spared in alive)


def test_checkpoint_waits_for_the_accumulated_update(tmp_path):
    """Six iterations an epoch, four for each update: saved after eight."""
    runner = FakeRunner(tmp_path, accumulative_counts=4)
    hook = start(SafeCheckpointHook(interval=1), runner)
    save_epoch(hook, runner, 0)
    assert names(tmp_path) == []
    runner.epoch = 1
    for runner.iter in (6, 7, 8):
        hook.after_train_iter(runner, batch_idx=runner.iter - 6)
    assert names(tmp_path) == ['epoch_1.pth']
    assert torch.load(tmp_path / 'epoch_1.pth')['meta'] == dict(
        epoch=1, iter=8)


def test_interim_checkpoint_lasts_until_the_next_regular_one(tmp_path):
    runner = FakeRunner(tmp_path)
    hook = start(SafeCheckpointHook(interval=1, max_keep_ckpts=1), runner)
    for runner.iter in (1, 3):
        path = hook.save_now(runner)
        assert (tmp_path / 'last_checkpoint').read_text() == path
        assert names(tmp_path) == [f'iter_{runner.iter + 1}.pth']
    save_epoch(hook, runner, 0)
    assert names(tmp_path) == ['epoch_1.pth']


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'deep/file.txt'
    AtomicLocalBackend().put_text('old', path)
    with pytest.raises(TypeError):
        AtomicLocalBackend().put('not bytes', path)
    assert path.read_text() == 'old'
    assert os.listdir(path.parent) == ['file.txt']


def test_a_strategys_runner_resumes_between_epochs(tiny_cfg, tmp_path):
    """mmengine's own says where an epoch ends, and its strategies write in place."""
    register_safe_loader()

    def trained(name, **changes):
        cfg = tiny_cfg(dict(
            work_dir=str(tmp_path / name), log_level='WARNING',
            experiment_name=f'{name} of {tmp_path}', runner_type='FlexibleRunner',
            strategy=dict(type='SingleDeviceStrategy'),
            optim_wrapper=dict(accumulative_counts=4), **changes))
        runner = FlexibleRunner.from_cfg(cfg)
        runner.train()
        return runner.model.state_dict()

    unbroken = trained('unbroken')
    # Six iterations an epoch: the update of eight is waited for.
    first, last = (tmp_path / f'unbroken/epoch_{n}.pth' for n in (1, 2))
    assert [(meta['epoch'], meta['iter']) for meta in (
        load_checkpoint_safely(path)['meta'] for path in (first, last))] == [
            (1, 8), (2, 12)]
    assert not list((tmp_path / 'unbroken').glob('.*'))
    resumed = trained('resumed', load_from=str(first), resume=True)
    assert all(torch.equal(unbroken[key], resumed[key]) for key in unbroken)
