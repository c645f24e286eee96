# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from typing import Any, Optional

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from mmeffmae.compat import unwrap
from mmeffmae.registry import HOOKS


@HOOKS.register_module()
class CompileHook(Hook):
    """Train with ``torch.compile``, as one graph.

    Compiled is the model's ``objective``: encoder, decoder and loss under
    masks that were drawn before. mmengine's ``compile=True`` would compile
    ``train_step`` and break at the draws and the log. Stochastic depth and
    drop-out draw other numbers than without.

    Args:
        **settings: Of ``torch.compile``, such as ``mode``. ``fullgraph`` is
            on: a part that breaks the graph is an error.

    Raises:
        ValueError: The model has no ``objective``.
    """

    # After the hooks that change layers or copy the model.
    priority = 'VERY_LOW'

    def __init__(self, **settings: Any) -> None:
        self.settings = dict(dict(fullgraph=True, dynamic=False), **settings)

    def attach(
        self, model: nn.Module, optim_wrapper: Optional[OptimWrapper] = None
    ) -> None:
        """Compile a model outside a runner."""
        if not hasattr(model, 'objective'):
            raise ValueError(
                f'{type(model).__name__} has no objective (CompileHook): use a '
                'pre-training model of mmeffmae, or leave the hook out')
        # In the instance alone: neither checkpoints nor copies hold it.
        vars(model)['objective'] = torch.compile(model.objective, **self.settings)

    def before_train(self, runner: Runner) -> None:
        """Compile; the first iteration of each shape takes long."""
        self.attach(unwrap(runner.model))

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        vars(unwrap(runner.model)).pop('objective', None)
