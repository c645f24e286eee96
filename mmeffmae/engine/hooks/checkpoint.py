# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import inspect
import os
from collections import deque

from mmengine.dist import barrier, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from mmeffmae.engine.storage import ATOMIC_BACKEND, AtomicLocalBackend
from mmeffmae.registry import HOOKS

from .nonfinite import NonFiniteGuardHook


def updates_are_complete(runner: Runner) -> bool:
    """Whether no accumulated gradient waits for the optimizer.

    A checkpoint holds weights and optimizer state but no gradients, so only
    at such an iteration is it the whole state of the run.
    """
    wrapper = runner.optim_wrapper
    wrappers = (
        wrapper.optim_wrappers.values()
        if isinstance(wrapper, OptimWrapperDict) else [wrapper])
    return all(w.should_update() for w in wrappers)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, safe against a stop at any moment.

    Files are written atomically. An old one is removed only after the new
    one and ``last_checkpoint``, which names it, are on disk. With gradient
    accumulation, a checkpoint that falls between two updates is written
    after the next update. Losses are checked by ``NonFiniteGuardHook``, if
    the run has one, before anything is written.

    Args:
        backend_args: Storage backend; None means atomic local files.
        **kwargs: As for ``mmengine.hooks.CheckpointHook``.

    Raises:
        ValueError: A number is none, or an argument is unknown.
    """

    def __init__(self, *args, backend_args: dict | None = None,
                 **kwargs) -> None:
        for name in ('interval', 'max_keep_ckpts'):
            if not isinstance(kwargs.get(name, 1), int):
                raise ValueError(f'{name}={kwargs[name]!r} (SafeCheckpointHook): '
                                 'use a whole number')
        super().__init__(*args, backend_args=backend_args, **kwargs)
        known = inspect.signature(Runner.save_checkpoint).parameters
        unknown = sorted(set(self.args) - set(known))
        if unknown:
            raise ValueError(f'{", ".join(unknown)} (SafeCheckpointHook): no such '
                             'argument of CheckpointHook or Runner.save_checkpoint')
        self._waiting: int | None = None
        self._meta: dict | None = None

    def before_train(self, runner: Runner) -> None:
        """Choose the backend and remove what a killed writer left."""
        out_dir = self.out_dir or runner.work_dir
        if self.backend_args is None and isinstance(
                get_file_backend(out_dir), LocalBackend):
            self.backend_args = dict(backend=ATOMIC_BACKEND)
        super().before_train(runner)
        if is_main_process() and isinstance(self.file_backend,
                                            AtomicLocalBackend):
            self.file_backend.remove_leftovers(self.out_dir)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Write a checkpoint that is due now, or was due before an update."""
        super().after_train_iter(runner, *args, **kwargs)
        if self._waiting is not None and updates_are_complete(runner):
            step, self._waiting = self._waiting, None
            self._save_checkpoint_with_step(runner, step, _position(runner))

    def save_now(self, runner: Runner) -> str:
        """Write ``iter_N.pth`` after N iterations, whatever the interval.

        Call it at the end of an iteration, on all ranks. The next regular
        checkpoint replaces the file.

        Args:
            runner: The runner, in ``after_train_iter``.

        Returns:
            Path of the checkpoint.
        """
        position = _position(runner)
        hub = runner.message_hub
        path = self.file_backend.join_path(self.out_dir,
                                           f'iter_{position["iter"]}.pth')
        if path != self.last_ckpt:
            previous = hub.runtime_info.get('interim_ckpt')
            hub.update_info('interim_ckpt', path)
            self._write(runner, path, position)
            self._remove(previous, unless=path)
        return path

    def _save_checkpoint_with_step(self, runner: Runner, step: int,
                                   meta: dict) -> None:
        if not updates_are_complete(runner):
            self._waiting = step
            runner.logger.info(
                f'The checkpoint of step {step} waits for the optimizer '
                'update that is being accumulated')
            return
        hub = runner.message_hub
        interim = hub.runtime_info.get('interim_ckpt')
        if interim is not None:
            hub.pop_info('interim_ckpt')
        path = self._path(step)
        outdated = []
        if self.max_keep_ckpts > 0:
            kept = [s for s in self.keep_ckpt_ids if s != step] + [step]
            outdated = kept[:-self.max_keep_ckpts]
            # The file lists all that are on disk while it is written: after
            # a stop before the removal, the resumed run removes them.
            hub.update_info('keep_ckpt_ids', kept)
            self.keep_ckpt_ids = deque(kept[-self.max_keep_ckpts:],
                                       self.max_keep_ckpts)
        self._write(runner, path, meta)
        if self.max_keep_ckpts > 0:
            hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        for old in [self._path(s) for s in outdated] + [interim]:
            self._remove(old, unless=path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        # mmengine removes the best file that it knows before it writes the
        # better one: let it know none, and remove afterwards.
        single = len(self.key_indicators) == 1
        if single:
            before = {'': self.best_ckpt_path}
            self.best_ckpt_path = None
        else:
            before = dict(self.best_ckpt_path_dict)
            self.best_ckpt_path_dict = dict.fromkeys(before)
        super()._save_best_checkpoint(runner, metrics)
        after = ({'': self.best_ckpt_path}
                 if single else self.best_ckpt_path_dict)
        for key, old in before.items():
            if after[key] is None:
                after[key] = old
            else:
                self._remove(old, unless=after[key])
        if single:
            self.best_ckpt_path = after['']

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir,
                                           self.filename_tmpl.format(step))

    def _write(self, runner: Runner, path: str, meta: dict) -> None:
        """Write the checkpoint, then ``last_checkpoint``."""
        for hook in runner.hooks:
            if isinstance(hook, NonFiniteGuardHook):
                hook.check(runner)
        runner.message_hub.update_info('last_ckpt', path)
        directory, _, name = path.rpartition('/')
        # A strategy takes no backend, and writes in place.
        renamed = not isinstance(runner, Runner) and isinstance(
            self.file_backend, LocalBackend)
        self._meta = dict(meta)
        runner.save_checkpoint(
            directory,
            f'.{name}.tmp' if renamed else name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args)
        self._meta = None
        if renamed:
            barrier()  # each rank may have written a part
            if is_main_process():
                os.replace(f'{directory}/.{name}.tmp', path)
        self.last_ckpt = path
        if is_main_process():
            AtomicLocalBackend().put_text(path,
                                          f'{runner.work_dir}/last_checkpoint')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Say where the run stands; ``FlexibleRunner`` says where epochs end."""
        if self._meta is not None:
            checkpoint['meta'].update(self._meta)

    def _remove(self, path: str | None, unless: str | None) -> None:
        """Remove a file if there is one and it is not the one to spare."""
        if path is None or path == unless or not is_main_process():
            return
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)


def _position(runner: Runner) -> dict[str, int]:
    """Where the run stands at the end of an iteration, for ``meta``."""
    return dict(epoch=runner.epoch, iter=runner.iter + 1)
