# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import os
import signal
from collections.abc import Callable
from functools import partial
from threading import Thread
from types import FrameType

import torch
from mmengine.dist import all_reduce, barrier, is_distributed
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmeffmae.registry import HOOKS

from .checkpoint import SafeCheckpointHook, updates_are_complete

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(SystemExit):
    """Leaves the training loop; exit code 128 + number of the signal."""


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On SIGTERM or SIGUSR1, write a checkpoint and leave.

    The current optimizer update is finished, ``iter_N.pth`` written and
    named in ``last_checkpoint``, and the process exits with code 143 (SIGTERM)
    or 138 (SIGUSR1). ``--resume`` continues as if nothing had happened. A
    signal during validation is acted on after the next update. Slurm sends
    SIGUSR1 a given time before the limit with ``--signal=USR1@120``.

    Args:
        interval: Least number of iterations between two agreements of the
            ranks of a distributed run, which cost a small collective
            operation each. torchrun kills processes 30 s after the signal:
            lower it when so many iterations take longer. A single process
            acts after every update.

    Raises:
        ValueError: The run has no ``SafeCheckpointHook``.
    """

    priority = 'LOWEST'

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self._received = 0
        self._waited = 0
        self._previous: dict[int, Callable | int | None] = {}

    def before_train(self, runner: Runner) -> None:
        """Install the handlers."""
        self._checkpoint = _find_checkpoint_hook(runner)
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._receive)
        for loop in (runner.train_loop, runner.val_loop):
            if loop is not None:
                loader = loop.dataloader
                loader.worker_init_fn = partial(_shield_worker,
                                                loader.worker_init_fn)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Leave if a signal has come to any rank."""
        self._waited += 1
        if not updates_are_complete(runner):
            return
        number = self._agree()
        if number:
            self._leave(runner, number)

    def after_train(self, runner: Runner) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = number

    def _agree(self) -> int:
        """The signal that some rank received, or 0."""
        if not is_distributed():
            return self._received
        if self._waited < self.interval:
            return 0
        self._waited = 0
        number = torch.tensor(self._received)
        all_reduce(number, op='max')
        return int(number)

    def _leave(self, runner: Runner, number: int) -> None:
        path = self._checkpoint.save_now(runner)
        # A launcher kills all ranks when the first one leaves.
        barrier()
        self.after_train(runner)
        runner.logger.warning(
            f'{signal.Signals(number).name} received: stopped after '
            f'iteration {runner.iter + 1} and wrote {path}. Run the same '
            'command with --resume to continue')
        raise Preempted(128 + number)


def _find_checkpoint_hook(runner: Runner) -> SafeCheckpointHook:
    for hook in runner.hooks:
        if isinstance(hook, SafeCheckpointHook):
            return hook
    raise ValueError(
        'no SafeCheckpointHook among the hooks (PreemptionHook): set '
        'default_hooks.checkpoint.type=\'mmeffmae.SafeCheckpointHook\'')


def _shield_worker(init_fn: Callable | None, worker_id: int) -> None:
    """Keep a signal to the whole process group away from a data worker.

    The loader's own SIGTERM, from the parent, still ends it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    Thread(target=_exit_for, args=(os.getppid(), ), daemon=True).start()
    if init_fn is not None:
        init_fn(worker_id)


def _exit_for(sender: int) -> None:
    while signal.sigwaitinfo(SIGNALS).si_pid != sender:
        pass
    os._exit(0)
