# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .attentive import attentive_probe
from .features import (
    extract_features,
    labelled_dataloader,
    patch_tokens,
    pool_features,
)
from .finetune import FinetuneSchedule, finetune_accuracy
from .knn import knn_accuracy
from .linear import fit_linear, linear_probe
from .probes import PROBES, ProbeTask
from .rng import isolated_rng
from .subsets import label_subset

__all__ = [
    'PROBES', 'FinetuneSchedule', 'ProbeTask', 'attentive_probe',
    'extract_features', 'finetune_accuracy', 'fit_linear', 'isolated_rng',
    'knn_accuracy', 'label_subset', 'labelled_dataloader', 'linear_probe',
    'patch_tokens', 'pool_features'
]
