# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Precision of matrix products."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_products() -> Iterator[None]:
    """Multiply float32 matrices in float32, whatever the process does else.

    Decorrelated training has TF32 on, see ``DecorrelationHook``.
    """
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('highest')
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
