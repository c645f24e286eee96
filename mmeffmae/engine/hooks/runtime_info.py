# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from typing import Any

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner

from mmeffmae.registry import HOOKS


@HOOKS.register_module()
class LazyRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook`` that does not wait for the losses.

    That one turns every term into a number at once, so each iteration waits
    until the GPU has done it before the next can be queued. Here the terms
    stay where they are until ``LoggerHook`` or a checkpoint wants them, and
    come over together. The log is the same; the time of a single iteration
    is not, only that of those between two lines of the log.
    """

    def __init__(self) -> None:
        self._pending: list[dict[str, torch.Tensor]] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Keep the iteration's terms; hand them over if they will be read."""
        self._pending.append({
            name: torch.as_tensor(value).detach()
            for name, value in (outputs or {}).items()})
        if self._will_be_read(runner, batch_idx):
            self.hand_over(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Leave nothing behind."""
        self.hand_over(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Let the checkpoint hold the terms so far."""
        if self._pending:
            self.hand_over(runner)
            checkpoint['message_hub'] = runner.message_hub.state_dict()

    def hand_over(self, runner: Runner) -> None:
        """Turn all kept terms into numbers, in one transfer."""
        values = [value.float() for terms in self._pending for value in terms.values()]
        devices = {value.device for value in values}
        if len(devices) > 1:  # numbers that were never on the GPU
            device = max(devices, key=lambda device: device.type != 'cpu')
            values = [value.to(device, non_blocking=True) for value in values]
        numbers = iter(torch.cat([v.reshape(1) for v in values]).tolist()
                       if values else ())
        for terms in self._pending:
            for name in terms:
                runner.message_hub.update_scalar(f'train/{name}', next(numbers))
        self._pending.clear()

    def _will_be_read(self, runner: Runner, batch_idx: int) -> bool:
        return self.end_of_epoch(runner.train_dataloader, batch_idx) or any(
            self.every_n_inner_iters(batch_idx, hook.interval)
            for hook in runner.hooks if isinstance(hook, LoggerHook))
