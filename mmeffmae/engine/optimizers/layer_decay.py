# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Optional

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import nn

from mmeffmae.registry import OPTIM_WRAPPER_CONSTRUCTORS

_BACKBONE = 'backbone.'
_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
#: Parts of names of what is never decayed, beside norms and vectors: positions,
#: tokens, and convolutions that are added to their input.
_UNDECAYED = ('pos_embed', 'position_embed', 'rel_pos_', 'cls_token', 'mask_token',
              'relative_position_bias_table', 'dwconv')
_OPTIONS = ('layer_decay_rate', 'custom_keys')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Lower learning rates for earlier layers, in any model with a backbone.

    A parameter at depth d of D has the rate ``lr · layer_decay_rate^(D-1-d)``
    (Clark et al., ELECTRA, https://arxiv.org/abs/2003.10555; BEiT and MAE
    fine-tune so). Depths come from ``model.backbone.get_layer_depth(name,
    'backbone.')``, as mmpretrain's backbones define them; necks, heads and
    everything else outside the backbone learn at the full rate. Classifiers,
    detectors and segmentors are treated alike.

    A tensor that several layers share has the mean of their scales, which is
    the step that their separate updates make together. It may be registered
    under several names, or the backbone may say so with an optional method
    ``get_layer_depths(name, prefix) -> (depths, number of depths)``.

    Position embeddings, tables of relative position biases, class and mask
    tokens, biases, norms and all other vectors and scalars are never decayed.

    Args:
        optim_wrapper_cfg (dict): With ``optimizer``, which needs ``lr``.
        paramwise_cfg (dict): ``layer_decay_rate`` (float, default 1), and
            ``custom_keys`` (dict): settings of parameters whose name contains
            the key, the longest key first: ``lr_mult`` multiplies the rate of
            the layer, ``decay_mult`` the decay, other entries go to the
            parameter group.

    Raises:
        ValueError: If an option is unknown, the optimizer has no ``lr``, or
            the model's backbone does not tell depths.

    Example:
        >>> optim_wrapper = dict(
        ...     type='AmpOptimWrapper',
        ...     optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
        ...     constructor='mmeffmae.LayerDecayOptimWrapperConstructor',
        ...     paramwise_cfg=dict(layer_decay_rate=0.65))
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        unknown = sorted(set(self.paramwise_cfg) - set(_OPTIONS))
        if unknown:
            raise ValueError(
                f'paramwise_cfg has {unknown} (LayerDecayOptimWrapperConstructor'
                f'): it takes {list(_OPTIONS)}; norms, biases and position '
                'tables are never decayed, anything else is for custom_keys')
        if self.base_lr is None:
            raise ValueError(
                'optim_wrapper.optimizer has no lr '
                '(LayerDecayOptimWrapperConstructor): name it, since every '
                'layer gets a share of it')
        # mmengine does not ask for groups if there are no options.
        self.paramwise_cfg = dict(dict(layer_decay_rate=1.), **self.paramwise_cfg)

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        """Append a group for every rate and decay that occurs.

        Args:
            params (list[dict]): The groups; extended in place.
            module (nn.Module): A model with ``backbone``, or an encoder.
            **kwargs: Not used.

        Raises:
            ValueError: If the backbone does not tell depths.
        """
        encoder = getattr(module, 'backbone', module)
        if not hasattr(encoder, 'get_layer_depth'):
            raise ValueError(
                f'{type(encoder).__name__} has no method get_layer_depth '
                '(LayerDecayOptimWrapperConstructor): use a backbone of '
                'mmeffmae or mmpretrain, or the default constructor')
        groups: dict[str, dict[str, Any]] = {}
        for parameter, names in _names_of_parameters(module).items():
            if not parameter.requires_grad:
                continue
            settings = self._settings(parameter, names, module)
            # Few groups keep fused and foreach optimizers fast.
            group = groups.setdefault(repr(settings), dict(settings, params=[]))
            group['params'].append(parameter)
        params.extend(groups.values())
        rates = [group['lr'] for group in groups.values()]
        print_log(
            f'layer decay {self._rate:g} of {type(encoder).__name__}: '
            f'{len(groups)} parameter groups with rates from {min(rates):.3g} '
            f'to {max(rates):.3g}', logger='current')

    @property
    def _rate(self) -> float:
        return self.paramwise_cfg.get('layer_decay_rate', 1.)

    def _settings(self, parameter: nn.Parameter, names: list[str],
                  model: nn.Module) -> dict[str, Any]:
        custom = self._custom(names[0])
        scales = [self._scale(name, model) for name in names]
        scale = sum(scales) / len(scales) * custom.pop('lr_mult', 1.)
        settings = dict(lr=self.base_lr * scale)
        if self.base_wd is not None:
            spared = any(_is_spared(parameter, name, model) for name in names)
            decay = custom.pop('decay_mult', 1.)
            settings['weight_decay'] = 0. if spared else self.base_wd * decay
        return {**settings, **custom}

    def _custom(self, name: str) -> dict[str, Any]:
        keys: Mapping[str, dict] = self.paramwise_cfg.get('custom_keys', {})
        matching = [key for key in keys if key in name]
        # As mmengine has it: the longest key, the first in the alphabet.
        best: Optional[str] = min(
            matching, key=lambda key: (-len(key), key), default=None)
        return {} if best is None else dict(keys[best])

    def _scale(self, name: str, model: nn.Module) -> float:
        encoder = getattr(model, 'backbone', model)
        place = '' if encoder is model else _BACKBONE
        if not name.startswith(place):
            return 1.
        if hasattr(encoder, 'get_layer_depths'):
            depths, total = encoder.get_layer_depths(name, place)
        else:
            depth, total = encoder.get_layer_depth(name, place)
            depths = [depth]
        return sum(self._rate**(total - 1 - d) for d in depths) / len(depths)


def _names_of_parameters(model: nn.Module) -> dict[nn.Parameter, list[str]]:
    names = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[parameter].append(name)
    return names


def _is_spared(parameter: nn.Parameter, name: str, model: nn.Module) -> bool:
    """Whether a parameter is never decayed."""
    return (parameter.ndim <= 1 or any(part in name for part in _UNDECAYED)
            or isinstance(model.get_submodule(name.rpartition('.')[0]), _NORMS))
