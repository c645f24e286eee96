# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .masked_autoencoder import MaskedAutoencoder
from .momentum_teacher import MomentumTeacher
from .pcae import PCAE

__all__ = ['MaskedAutoencoder', 'MomentumTeacher', 'PCAE']
