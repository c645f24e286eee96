# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Checkpoints: safe loading, load reports, export to stock backbones.

Export lives in :mod:`mmeffmae.checkpoint.export`, which imports mmpretrain's
models.
"""
from .loading import (
                      CheckpointError,
                      UnsafeCheckpointError,
                      load_checkpoint_safely,
                      register_safe_loader,
)
from .metadata import (
                      checkpoint_grid,
                      checkpoint_preprocessing,
                      preprocessing_differences,
)
from .report import LoadReport, load_with_report

__all__ = [
    'CheckpointError', 'LoadReport', 'UnsafeCheckpointError',
    'checkpoint_grid', 'checkpoint_preprocessing', 'load_checkpoint_safely',
    'load_with_report', 'preprocessing_differences', 'register_safe_loader'
]
