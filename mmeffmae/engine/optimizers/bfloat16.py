# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import autocast
from torch import nn

from mmeffmae.compat import has_bfloat16
from mmeffmae.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Trains under bfloat16 autocast, on GPU or CPU.

    bfloat16 has the range of fp32, so no loss is scaled; mmengine's
    ``AmpOptimWrapper`` would scale it, waits for the GPU in every step to
    look for overflows, and refuses to run without a GPU.

    Args:
        enabled (bool, optional): None means on where there is a GPU that
            computes in bfloat16, off elsewhere. Defaults to None.
        **kwargs: Of ``mmengine.optim.OptimWrapper``.
    """

    def __init__(self, enabled: Optional[bool] = None, **kwargs) -> None:
        super().__init__(**kwargs)
        if enabled is None:
            enabled = has_bfloat16()
        self.enabled = enabled

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, and no gradient exchange while gradients accumulate."""
        with super().optim_context(model), \
                autocast(enabled=self.enabled, dtype=torch.bfloat16):
            yield
