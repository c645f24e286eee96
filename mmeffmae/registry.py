# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Registries of the ``mmeffmae`` scope.

Every registry is a child of mmengine's root and names where its members
live, so ``type='mmeffmae.MaskedViT'`` resolves from mmpretrain, mmdet and
mmseg configs without an import line. A look-up imports the locations:
nothing below them may import mmdet, mmseg or compiled mmcv ops.
"""
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
)
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(
        name,
        parent=parent,
        scope='mmeffmae',
        locations=[f'mmeffmae.{location}' for location in locations])


#: Backbones, necks, heads, losses and self-supervised algorithms.
MODELS = _child('model', MMENGINE_MODELS, 'models')
#: Masking strategies.
TASK_UTILS = _child('task util', MMENGINE_TASK_UTILS, 'masking')
DATASETS = _child('dataset', MMENGINE_DATASETS, 'datasets')
DATA_SAMPLERS = _child('data sampler', MMENGINE_DATA_SAMPLERS, 'datasets')
TRANSFORMS = _child('transform', MMENGINE_TRANSFORMS, 'datasets')
#: What a data loader or a model wrapper calls.
FUNCTIONS = _child('function', MMENGINE_FUNCTIONS, 'datasets', 'engine')
HOOKS = _child('hook', MMENGINE_HOOKS, 'engine')
OPTIMIZERS = _child('optimizer', MMENGINE_OPTIMIZERS, 'engine')
OPTIM_WRAPPERS = _child('optimizer wrapper', MMENGINE_OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor', MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
METRICS = _child('metric', MMENGINE_METRICS, 'evaluation')
