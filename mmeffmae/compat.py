# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Private or version-dependent names of other packages, all in one place.

Each has a test in ``tests/test_compat.py``, so that a new version which
changes one says so there.
"""
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.device import is_cuda_available
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from mmengine.runner.checkpoint import (
    CheckpointLoader,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)
from torch import Tensor, nn


def run_load_hooks(module: nn.Module,
                   state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a module makes of a state dict before it copies the tensors.

    Args:
        module: Its parts may resize or rename tensors in hooks.
        state_dict: Left as it is.

    Returns:
        dict: The tensors that ``load_state_dict`` would copy.
    """
    ready = dict(state_dict)
    for name, child in module.named_modules():
        prefix = f'{name}.' if name else ''
        for hook in child._load_state_dict_pre_hooks.values():
            hook(ready, prefix, {}, False, [], [], [])
    return ready


def is_training_run(runner: Runner) -> bool:
    """Whether ``before_run`` was called by ``train``, which builds the loop.

    ``test`` and ``val`` leave the training loop unbuilt and load no
    ``Pretrained`` weights.
    """
    return isinstance(runner._train_loop, BaseLoop)


def is_resuming(runner: Runner) -> bool:
    """Whether the checkpoint of the runner is resumed, not only loaded."""
    return runner._resume


def swaps_channels(preprocessor: Any) -> bool | None:
    """Whether a data preprocessor turns BGR images into RGB.

    Args:
        preprocessor: Of mmpretrain, mmdet or mmseg.

    Returns:
        bool | None: None if it cannot be told.
    """
    for name in ('to_rgb', '_channel_conversion'):
        if hasattr(preprocessor, name):
            return bool(getattr(preprocessor, name))
    return None


def checkpoint_schemes() -> list[str]:
    """Beginnings of the addresses that mmengine loads checkpoints from."""
    return list(CheckpointLoader._schemes)


def model_zoo_url(address: str) -> str:
    """Where a checkpoint that a model zoo names can be downloaded.

    Args:
        address: Such as ``torchvision://resnet50``.

    Raises:
        KeyError: The zoo has no such model.
    """
    scheme, _, name = address.partition('://')
    if scheme in ('modelzoo', 'torchvision'):
        zoo = get_torchvision_models()
    elif scheme == 'mmcls':
        zoo = get_mmcls_models()
    else:
        zoo = get_external_models()
        name = get_deprecated_model_names().get(name, name)
    if name not in zoo:
        raise KeyError(f'{address}: the zoo {scheme!r} has no model {name!r}')
    return zoo[name]


def multiply_accumulation(wrapper: OptimWrapper, factor: int) -> None:
    """Let an optimizer wrapper accumulate ``factor`` times as many steps."""
    wrapper._accumulative_counts *= factor


def has_bfloat16() -> bool:
    """Whether the GPU computes in bfloat16, rather than emulating it.

    Older ones (V100, T4) emulate it and are slower than in fp32; torch counts
    them as supporting it unless it is asked not to.
    """
    return is_cuda_available() and torch.cuda.is_bf16_supported(
        including_emulation=False)
