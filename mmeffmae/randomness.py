# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Keyed randomness: every random stream is a function of what it is for.

A stream is named by integers, such as (seed, rank, iteration) or
(seed, epoch, position), and its seed is a hash of them. Nothing has to be
stored to resume a run, and two runs that differ in the model alone see the
same images, crops and masks.
"""
import hashlib
import random
import struct

import numpy as np
import torch


def mix_key(*parts: int) -> int:
    """Hash integers into one seed.

    Args:
        *parts: Integers within the signed 64-bit range. Order and number
            matter.

    Returns:
        An integer in [0, 2**63), equal on every machine and Python version.
    """
    packed = struct.pack(f'<{len(parts)}q', *parts)
    digest = hashlib.blake2b(packed, digest_size=8).digest()
    return int.from_bytes(digest, 'little') >> 1


def seed_cpu(key: int) -> None:
    """Seed the generators of python, numpy and torch on the CPU.

    Enough for a sample, and twice as many samples a second: torch queues a
    seed for GPUs that are not in use yet with a formatted stack trace.

    Args:
        key: A non-negative integer below 2**63; see :func:`mix_key`.
    """
    random.seed(key)
    np.random.seed(key % 2**32)
    torch.default_generator.manual_seed(key)


def seed_all(key: int) -> None:
    """Seed the generators of python, numpy and torch (CPU and GPU).

    Args:
        key: A non-negative integer below 2**63; see :func:`mix_key`.
    """
    seed_cpu(key)
    torch.manual_seed(key)


def keyed_uniforms(keys: np.ndarray, count: int) -> np.ndarray:
    """Uniform numbers that depend on each key alone, without a loop over keys.

    The hash is splitmix64 (Steele et al., OOPSLA 2014) of key and position.

    Args:
        keys: ``(B,)`` non-negative integers; see :func:`mix_key`.
        count: Numbers for each key.

    Returns:
        np.ndarray: ``(B, count)``, float64, in [0, 1).
    """
    golden = np.uint64(0x9E3779B97F4A7C15)
    steps = np.arange(1, count + 1, dtype=np.uint64) * golden
    bits = keys.astype(np.uint64)[:, None] + steps
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    return (bits >> np.uint64(11)) * 2.**-53
