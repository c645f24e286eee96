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
