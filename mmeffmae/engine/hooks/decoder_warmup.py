# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import math

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.optim import Optimizer

from mmeffmae.compat import unwrap
from mmeffmae.registry import HOOKS

from .decorrelation import DecorrelationHook


@HOOKS.register_module()
class DecoderWarmupHook(Hook):
    """Train the decoder alone at first, when the encoder has learned already.

    A decoder that starts from chance sends the encoder gradients that undo what
    its weights know. For the first part of training the encoder's gradients are
    dropped before every optimizer step, which then changes neither its weights
    nor, with AdamW, its moments. Whether they are dropped depends on the
    iteration alone, so a resumed run equals the unbroken one; and gradients
    are still exchanged, so distributed training works as it is.

    Use it with ``init_cfg=dict(type='Pretrained', ...)`` of the backbone::

        custom_hooks = [dict(type='mmeffmae.DecoderWarmupHook')]

    Args:
        share: Part of all iterations in which the encoder stays as it is.

    Raises:
        ValueError: ``share`` is out of range, or the encoder would change all the
            same: decorrelation, or an optimizer that is no single one.
    """

    # Behind the hooks that build and load.
    priority = 'LOW'

    def __init__(self, share: float = 0.05) -> None:
        if not 0 <= share < 1:
            raise ValueError(f'share {share} (DecoderWarmupHook): use a number from '
                             '0 up to, but not including, 1')
        self.share = share

    def iterations(self, max_iters: int) -> int:
        """How many iterations the decoder trains alone."""
        return math.ceil(self.share * max_iters)

    def before_train(self, runner: Runner) -> None:
        """Watch the optimizer."""
        if any(isinstance(hook, DecorrelationHook) for hook in runner.hooks):
            raise ValueError(
                'DecoderWarmupHook with DecorrelationHook: decorrelation changes '
                'the encoder while it should stay; leave one of them out')
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            raise ValueError(
                f'{type(wrapper).__name__} (DecoderWarmupHook): use one optimizer')
        encoder: nn.Module = unwrap(runner.model).backbone
        count = self.iterations(runner.max_iters)

        def drop_gradients(optimizer: Optimizer, *args) -> None:
            if runner.iter < count:
                for parameter in encoder.parameters():
                    parameter.grad = None

        self._handle = wrapper.optimizer.register_step_pre_hook(drop_gradients)
        runner.logger.info(
            f'the encoder stays as it is for the first {count} of '
            f'{runner.max_iters} iterations, while the decoder warms up')

    def after_train(self, runner: Runner) -> None:
        """Let go of the optimizer."""
        self._handle.remove()
