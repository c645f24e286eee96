# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Random numbers that training never notices."""
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

import numpy as np
import torch


@contextmanager
def isolated_rng(seed: Optional[int] = None) -> Iterator[None]:
    """Restore every random stream of this process when the block ends.

    Python, NumPy, torch on the CPU and torch on every CUDA device that was
    already in use are put back, also when the block raises.

    Args:
        seed: Seeds all of these streams inside the block. Without it the
            block goes on from the current state.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    in_use = torch.cuda.is_available() and torch.cuda.is_initialized()
    devices = list(range(torch.cuda.device_count())) if in_use else []
    try:
        with torch.random.fork_rng(devices=devices):
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed % 2**32)
                torch.default_generator.manual_seed(seed)
                if in_use:
                    torch.cuda.manual_seed_all(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
