# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections import Counter
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmeffmae.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor with one group for all parameters of equal settings.

    mmengine makes a group of every parameter, so that a fused optimizer takes a
    call for each, and schedulers a turn. Rates and decays are the same.

    Args:
        optim_wrapper_cfg (dict): As of mmengine's.
        paramwise_cfg (dict): As of mmengine's.

    Raises:
        ValueError: A parameter is in the model twice, as mmengine says, too.
    """

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '',
                   **kwargs: Any) -> None:
        """Append the groups of a module; of the model itself, few.

        Args:
            params (list[dict]): The groups; extended in place.
            module (nn.Module): A model, or a part of it.
            prefix (str): The part's name, empty for the model.
            **kwargs: As of mmengine's.
        """
        super().add_params(params, module, prefix=prefix, **kwargs)
        if not prefix:
            params[:] = _merged(params)


def _merged(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of the same settings in one, in the order of the first of each."""
    merged: dict[str, dict[str, Any]] = {}
    for group in groups:
        settings = {key: group[key] for key in sorted(group) if key != 'params'}
        found = merged.setdefault(repr(settings), dict(settings, params=[]))
        found['params'].extend(group['params'])
    numbers = Counter(id(p) for of in merged.values() for p in of['params'])
    if any(count > 1 for count in numbers.values()):
        raise ValueError(
            'a parameter is in the model twice (GroupedOptimWrapperConstructor): set '
            'bypass_duplicate=True in optim_wrapper.paramwise_cfg')
    return list(merged.values())
