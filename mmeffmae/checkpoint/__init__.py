# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Checkpoints: safe loading, load reports, export to stock backbones."""
from .loading import (CheckpointError, UnsafeCheckpointError,
                      load_checkpoint_safely, register_safe_loader)

__all__ = [
    'CheckpointError', 'UnsafeCheckpointError', 'load_checkpoint_safely',
    'register_safe_loader'
]
