# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Efficient masked-autoencoder pre-training for OpenMMLab."""
from .version import __version__

__all__ = ['__version__']
