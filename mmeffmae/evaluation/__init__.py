# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .features import extract_features, labelled_dataloader, pool_features
from .knn import knn_accuracy
from .linear import fit_linear, linear_probe
from .probes import PROBES, ProbeTask
from .rng import isolated_rng

__all__ = [
    'PROBES', 'ProbeTask', 'extract_features', 'fit_linear', 'isolated_rng',
    'knn_accuracy', 'labelled_dataloader', 'linear_probe', 'pool_features'
]
