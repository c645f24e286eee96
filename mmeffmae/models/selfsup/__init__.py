# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .masked_autoencoder import MaskedAutoencoder

__all__ = ['MaskedAutoencoder']
