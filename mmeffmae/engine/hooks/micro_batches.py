# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmeffmae.compat import multiply_accumulation
from mmeffmae.registry import HOOKS


@HOOKS.register_module()
class MicroBatchHook(Hook):
    """Compute each batch in parts and accumulate their gradients.

    Unlike ``accumulative_counts`` of the optimizer wrapper, with which it goes
    together, this leaves the number of iterations alone. A run that resumes on
    fewer ranks gets it from ``tools/train.py``.

    Args:
        parts: Number of parts of a batch.
        configured_batch_size: Images a rank that the config asks for; stored
            in checkpoints for the next resume.

    Raises:
        ValueError: ``parts`` is less than 1.
    """

    # After the other hooks have prepared the model.
    priority = 'LOWEST'

    def __init__(self, parts: int, configured_batch_size: int) -> None:
        if parts < 1:
            raise ValueError(f'parts={parts} (MicroBatchHook): use 1 or more')
        self.parts = parts
        self.configured_batch_size = configured_batch_size

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Record the configured batch."""
        checkpoint['meta']['configured_batch_size'] = self.configured_batch_size

    def before_train(self, runner: Runner) -> None:
        """Put the parts between the loop and the model."""
        if self.parts == 1:
            return
        step, loop = runner.model.train_step, runner.train_loop
        wrapper = runner.optim_wrapper
        multiply_accumulation(wrapper, self.parts)
        wrapper.initialize_count_status(
            runner.model, loop.iter * self.parts, loop.max_iters * self.parts)

        def train_step(data: Any, optim_wrapper: Any) -> dict:
            logs = [step(part, optim_wrapper=optim_wrapper)
                    for part in split_batch(data, self.parts)]
            return {name: sum(log[name] for log in logs) / len(logs)
                    for name in logs[0]}

        runner.model.train_step = train_step


def split_batch(data: Any, parts: int) -> list:
    """Split a collated batch into parts of nearly equal size.

    Args:
        data: Tensors and sequences of B entries, in nested dicts.
        parts: Number of parts; images repeat where B is smaller.

    Returns:
        list: ``parts`` batches of the same structure.
    """
    if isinstance(data, Mapping):
        pieces = {key: split_batch(value, parts) for key, value in data.items()}
        return [{key: piece[i] for key, piece in pieces.items()}
                for i in range(parts)]
    if data is None:
        return [None] * parts
    size = len(data)
    if size < parts:
        chosen = [[i % size] for i in range(parts)]
    else:
        chosen = [part.tolist() for part in torch.arange(size).tensor_split(parts)]
    if isinstance(data, torch.Tensor):
        return [data[indices] for indices in chosen]
    return [type(data)([data[i] for i in indices]) for indices in chosen]
