# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Faults that a config asks for; imported by name in runs of their own."""
import os
import signal
import time
from pathlib import Path

import torch
from mmcv.transforms import BaseTransform
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS


def first_time(mark: str) -> bool:
    """Whether a fault has not happened yet; from now on it has."""
    if Path(mark).exists():
        return False
    Path(mark).touch()
    return True


@HOOKS.register_module()
class StrikeRank(Hook):
    """Once, within the step of an iteration, let a rank fail."""

    priority = 'LOWEST'

    def __init__(self, how: str, mark: str, rank: int = 1, iteration: int = 8):
        self.how, self.mark, self.rank, self.iteration = how, mark, rank, iteration

    def before_train_iter(self, runner, *args, **kwargs):
        if (runner.iter + 1, runner.rank) != (self.iteration, self.rank):
            return
        if not first_time(self.mark):
            return
        if self.how == 'kill':
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == 'freeze':
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.how == 'terminate':  # the launcher, as a job manager would
            os.kill(os.getppid(), signal.SIGTERM)
        if self.how == 'hang':
            model = getattr(runner.model, 'module', runner.model)
            model.draw_plan = self.hang_here

    def hang_here(self, images):
        time.sleep(3600)


@HOOKS.register_module()
class RecordImages(Hook):
    """Append a number for each image of each iteration to a file a rank."""

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        sums = [int(x.sum()) for x in data_batch['inputs']]
        with open(f'{runner.work_dir}/images{runner.rank}.txt', 'a') as file:
            file.write(f'{runner.iter} {" ".join(map(str, sums))}\n')


@HOOKS.register_module()
class SlowIterations(Hook):
    """Leave time for a signal to come anywhere."""

    def __init__(self, seconds: float = 0.05):
        self.seconds = seconds

    def after_train_iter(self, runner, *args, **kwargs):
        time.sleep(self.seconds)


@TRANSFORMS.register_module()
class StrikeWorker(BaseTransform):
    """Once, kill a data-loading worker as soon as a file is there."""

    def __init__(self, mark: str, when: str):
        self.mark, self.when = mark, when

    def transform(self, results):
        if (Path(self.when).exists()
                and torch.utils.data.get_worker_info() is not None
                and first_time(self.mark)):
            os.kill(os.getpid(), signal.SIGKILL)
        return results
