# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What the machine can do at best, measured."""
from collections.abc import Callable

import torch

from .throughput import clock


def peak_flops(
    device: torch.device, dtype: torch.dtype = torch.float32, repeats: int = 5
) -> float:
    """Floating-point operations a second in the best of large products.

    Args:
        device: On a CPU torch's present number of threads is used.
        dtype: Of the matrices.
        repeats: Products that are timed.
    """
    size = 8192 if device.type == 'cuda' else 1024
    a, b, out = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(3))
    return 2 * size**3 / _best(lambda: torch.mm(a, b, out=out), device, repeats)


def peak_bandwidth(device: torch.device, repeats: int = 5) -> float:
    """Bytes a second, read and written, in the best of large sums in place.

    A copy tells less: caches read what it overwrites.
    """
    size = 2**28 if device.type == 'cuda' else 2**26
    source, target = (torch.ones(size, device=device) for _ in range(2))
    return 12 * size / _best(lambda: target.add_(source), device, repeats)


def _best(compute: Callable[[], object], device: torch.device, repeats: int) -> float:
    read = clock(device)
    compute()
    seconds = []
    for _ in range(repeats):
        start = read()
        compute()
        seconds.append(read() - start)
    return min(seconds)
