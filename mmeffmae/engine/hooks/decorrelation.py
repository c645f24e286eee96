# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Mapping
from typing import Any, Optional

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from mmeffmae.compat import is_resuming, is_training_run, unwrap
from mmeffmae.engine.decorrelation import (
    DecorrelationError,
    DecorrelationSettings,
    Decorrelator,
)
from mmeffmae.registry import HOOKS

#: Key of the raw W and R in a checkpoint.
SECTION = 'decorrelation'
_REFUSED_RUNNERS = ('FlexibleRunner', )
_REFUSED_WRAPPERS = ('FullyShardedDataParallel', )
_REFUSED_HOOKS = ('EMAHook', 'MeanTeacherHook')


@HOOKS.register_module()
class DecorrelationHook(Hook):
    """Decorrelated back-propagation (DBP) of any model.

    Decorrelation Speeds Up Vision Transformers,
    https://arxiv.org/abs/2510.14657; the rule is that of
    https://arxiv.org/abs/2405.02385. One line in a config turns it on::

        custom_hooks = [dict(type='mmeffmae.DecorrelationHook')]

    Chosen layers get a matrix R in front of their weights, which learns to
    decorrelate their inputs and never sees the loss. With ``eta=0`` a run in
    float32 is the run without the hook. Checkpoints hold the weights with R folded
    in under the plain names; the raw ones are beside them, for resuming.
    Under autocast the process multiplies float32 matrices, which the products
    with R are, in TF32 from then on (``torch.set_float32_matmul_precision``).

    Args:
        eta: Learning rate of R; follows the schedule of the weights'. The
            authors use 1e-4 with small networks; theirs for vision
            transformers is not public.
        log_interval: Iterations between two records of the correlation,
            variance and distance of every layer (``decorrelation/*`` in the
            run's scalars; ``tools/analysis/plot_decorrelation.py`` draws
            them). The log line shows their means.
        **settings: Other fields of
            :class:`mmeffmae.engine.decorrelation.DecorrelationSettings`:
            ``kappa``, ``include``, ``exclude``, ``fc2_blocks``,
            ``patch_embed``, ``num_samples``, ``update_interval`` and
            ``step_guard``.

    Raises:
        DecorrelationError: A pattern matches no layer, or the run has a
            runner, model wrapper or hook that would take W without R, or two
            of these hooks.
    """

    # Before any hook that copies the model, reports or saves.
    priority = 'VERY_HIGH'

    def __init__(
        self, eta: float = 1e-4, log_interval: int = 50, **settings: Any
    ) -> None:
        self.settings = DecorrelationSettings(eta=eta, **settings)
        self.log_interval = log_interval
        self.decorrelator: Optional[Decorrelator] = None
        self._resumed: Optional[Mapping[str, Any]] = None

    def attach(
        self, model: nn.Module, optim_wrapper: OptimWrapper, seed: int = 0
    ) -> Decorrelator:
        """Decorrelate a model outside a runner.

        Under autocast it turns on TF32, for the whole process.
        """
        self.decorrelator = Decorrelator(
            model, optim_wrapper, self.settings, seed)
        if _trains_in_16_bits(model, optim_wrapper):
            # TF32: W R is rounded to 16 bits right after it, as all else is.
            torch.set_float32_matmul_precision('high')
        return self.decorrelator

    def before_run(self, runner: Runner) -> None:
        """Convert the layers, once; a run that only tests stays plain."""
        _refuse(runner)
        if self.decorrelator is not None or not is_training_run(runner):
            return
        decorrelator = self.attach(
            unwrap(runner.model), runner.optim_wrapper, runner.seed)
        runner.logger.info(
            f'decorrelated layers: {", ".join(decorrelator.layers)}; others of the '
            'encoder, for include, fc2_blocks and patch_embed: '
            f'{", ".join(decorrelator.plain_layers) or "none"}')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember the raw W and R of a run that is resumed."""
        if is_resuming(runner):
            self._resumed = checkpoint.get(SECTION)

    def before_train(self, runner: Runner) -> None:
        """Go on where the resumed run stopped."""
        assert self.decorrelator is not None
        if self._resumed is not None:
            self.decorrelator.load_state_dict(self._resumed)
            self._resumed = None
        elif runner.iter:
            runner.logger.warning(
                'the checkpoint is of a run without decorrelation: R starts as '
                'the identity (DecorrelationHook)')
        self.decorrelator.seed = runner.seed
        self.decorrelator.draw()

    def before_train_epoch(self, runner: Runner) -> None:
        """Start all ranks alike; rounding shall not part them either."""
        assert self.decorrelator is not None
        self.decorrelator.synchronise()

    def after_train_iter(self, runner: Runner, *args: Any,
                         **kwargs: Any) -> None:
        """Record the monitors."""
        if self.every_n_train_iters(runner, self.log_interval):
            self._record(runner)

    @master_only
    def _record(self, runner: Runner) -> None:
        assert self.decorrelator is not None
        found = self.decorrelator.monitors()
        if not found:
            return
        scalars = {
            f'decorrelation/{name}/{layer}': value
            for layer, values in found.items()
            for name, value in values.items()
        }
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
        for name in next(iter(found.values())):
            mean = sum(values[name] for values in found.values()) / len(found)
            runner.message_hub.update_scalar(f'train/decor_{name}', mean)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the raw W and R to the folded weights."""
        if self.decorrelator is not None:
            checkpoint[SECTION] = self.decorrelator.state_dict()


def _trains_in_16_bits(model: nn.Module, optim_wrapper: OptimWrapper) -> bool:
    device = next(model.parameters()).device.type
    with optim_wrapper.optim_context(model):
        return torch.is_autocast_enabled(device)


def _refuse(runner: Runner) -> None:
    if sum(isinstance(hook, DecorrelationHook) for hook in runner.hooks) > 1:
        raise DecorrelationError(
            'two DecorrelationHooks, of whose layers a checkpoint would hold those '
            'of one: name all in include of a single hook')
    for kind, found, names, mend in (
        ('runner', [runner], _REFUSED_RUNNERS, 'use mmengine\'s Runner'),
        ('model wrapper', [runner.model], _REFUSED_WRAPPERS,
         'use MMDistributedDataParallel'),
        ('hook', runner.hooks, _REFUSED_HOOKS, 'remove it'),
    ):
        for item in found:
            bases = {base.__name__ for base in type(item).__mro__}
            if bases.intersection(names):
                raise DecorrelationError(
                    f'{kind} {type(item).__name__} does not go with '
                    'DecorrelationHook, since it loads, shards or averages '
                    f'weights without their matrices R: {mend}')
